"""What hostile clients do to others' calls."""
