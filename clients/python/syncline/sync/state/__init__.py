"""What a device remembers about a synced folder."""
