"""The services as a client sees them: typed, synchronous, with errors of `syncline.model.errors` only."""
