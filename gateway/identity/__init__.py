"""Who asks, from where, and whether they may still do so."""
