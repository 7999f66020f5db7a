"""Records: small values that one request stores for later requests, which another process may serve."""
