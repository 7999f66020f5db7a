"""The way in which a space changes: commits are decided together, appended as one entry, projected and announced."""
