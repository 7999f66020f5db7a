"""The server half of gRPC: how a composed application is served, and all that is around each call."""
