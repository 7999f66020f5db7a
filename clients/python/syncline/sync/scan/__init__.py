"""The scan: one pass over the folder, the rules for what stays out, and the node that each entry is."""
