"""Who works with whom: connections, and the grants that make a name visible."""
