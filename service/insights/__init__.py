"""What a call is told: the Certificate API, and the decision who owns a site."""
