"""What notify's ports are in production."""
