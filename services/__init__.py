"""The three gRPC services. They never import each other; they call each other by gRPC."""
