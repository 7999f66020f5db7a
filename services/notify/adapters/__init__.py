"""Production adapters of notify's ports."""
