"""The scan: one pass over the folder, the rules for what is left out, and the identification of each entry's node."""
