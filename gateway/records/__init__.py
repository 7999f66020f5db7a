"""Small values that requests store for later requests, across all processes."""
