"""metadata: one journal per space; everything else is derived from the journal."""
