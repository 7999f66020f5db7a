"""The three services as the gateway calls them: in the caller's name, by gRPC."""
