"""A synced folder: what it is linked to, and how things in it are reached and changed safely."""
