"""Adapters of auth's ports, as they are in production."""
