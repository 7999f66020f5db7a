"""The server half of gRPC: serving of a composed application, and the interceptors around each call."""
