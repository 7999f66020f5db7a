"""Planning: a three-way merge of folder, space and base, and ordered steps that make the sides agree. Pure."""
