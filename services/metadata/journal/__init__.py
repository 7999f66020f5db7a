"""How a space changes: commits are decided together, appended as one entry, projected and announced."""
