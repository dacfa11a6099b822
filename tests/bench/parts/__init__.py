"""What is measured, a module for each part: `measure` returns the part's figures."""
