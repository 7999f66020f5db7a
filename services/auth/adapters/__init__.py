"""What auth's ports are in production."""
