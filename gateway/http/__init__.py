"""Middleware around every request: connections, headers, bodies, minimum transfer rates, and the form of errors."""
