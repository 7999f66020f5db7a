"""Planning: a three-way merge of folder, space and base, and ordered operations that make the sides agree. Pure."""
