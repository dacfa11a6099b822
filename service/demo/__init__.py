"""The demo: a few companies that show every kind of answer."""
