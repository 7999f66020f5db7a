"""Benchmarks: each prints figures, and ratios to a peer that does the same in the same run."""
