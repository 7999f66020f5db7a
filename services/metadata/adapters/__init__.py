"""What metadata's ports are in production."""
