"""The demo: a few companies that demonstrate every kind of answer."""
