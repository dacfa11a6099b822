"""What is going on, in numbers and in words."""
