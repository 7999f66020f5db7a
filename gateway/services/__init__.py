"""The gateway's calls of the three services by gRPC, on behalf of its callers."""
