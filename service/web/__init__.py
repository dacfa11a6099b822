"""HTTP code that all packages share: bodies, problems, idempotency, the frame of pages."""
