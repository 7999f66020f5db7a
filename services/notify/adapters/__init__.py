"""Adapters of notify's ports, as they are in production."""
