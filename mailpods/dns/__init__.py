"""What DNS says; nobody else asks it."""
