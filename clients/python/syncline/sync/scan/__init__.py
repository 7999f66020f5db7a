"""The scan: one pass over the folder, the rules for entries that are not synced, and the identification of each entry's
node.
"""
