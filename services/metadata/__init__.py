"""metadata: one log per space, everything else derived from it."""
