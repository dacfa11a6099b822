"""Who is calling: accounts, their names, their members, and their API keys."""
