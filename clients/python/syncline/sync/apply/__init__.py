"""The operations of a plan, carried out: in the folder (`local`) and in the space (`remote`)."""
