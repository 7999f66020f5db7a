"""The tree of a space as its journal makes it: what this process knows of it, decisions on it, and reads."""
