"""What HTTP needs, whoever uses it: bodies, problems, idempotency, the frame of pages."""
