"""Adapters of metadata's ports, as they are in production."""
