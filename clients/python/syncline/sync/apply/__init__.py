"""Execution of the operations of a plan: in the folder (module `local`) and in the space (module `remote`)."""
