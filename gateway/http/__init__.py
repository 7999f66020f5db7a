"""Around every request: connections, headers, bodies, pace, and how errors are told."""
