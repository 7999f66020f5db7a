"""Production adapters of auth's ports."""
