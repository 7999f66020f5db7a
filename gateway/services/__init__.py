"""Clients of the three services, which call them by gRPC on behalf of the caller."""
