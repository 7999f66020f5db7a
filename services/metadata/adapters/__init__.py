"""Production adapters of metadata's ports."""
