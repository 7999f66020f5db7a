"""Identity, network address and present rights of the caller."""
