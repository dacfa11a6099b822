"""Many certificates or sites at once: files that are uploaded, answered by jobs, and downloaded."""
