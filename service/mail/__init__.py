"""Email: queued in the transaction that causes it, and sent by a background job."""
