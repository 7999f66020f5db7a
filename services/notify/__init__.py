"""Tells people by mail and devices by doorbell that something changed."""
