"""Execution of the operations of a plan: in the folder (`local`) and in the space (`remote`)."""
