"""The services as a client sees them: typed, synchronous, with errors of `core.errors` only."""
