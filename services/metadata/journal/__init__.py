"""The write path of a space: requests are decided in batches, appended as one entry, projected and announced."""
