"""Notifies people by mail, and devices by doorbell, of changes in spaces."""
