"""The tree of a space as the journal defines it: the state in memory, the decisions on mutations, and reads."""
