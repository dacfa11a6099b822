"""The Certificate API, and the decision about who owns a site."""
