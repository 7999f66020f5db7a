"""A synced folder: its link to a space, and safe access to the entries in it."""
