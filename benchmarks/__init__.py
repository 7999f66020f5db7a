"""Benchmarks: each prints figures, and ratios against a peer that does the same in the same run."""
