"""The record of what callers were told, and of what they retained."""
