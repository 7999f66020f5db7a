"""Contents on their way out: blocks put together, ranges, archives, and what is left of a link's downloads."""
