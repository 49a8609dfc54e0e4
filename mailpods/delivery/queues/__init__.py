"""What is delivered when, and in which turn: by destination, and within one by tenant."""
