"""What is in the folder: one pass over it, what stays out, and which node each thing is."""
