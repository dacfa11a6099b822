"""Mail: queued in the transaction that decides on it, and sent by a background job."""
