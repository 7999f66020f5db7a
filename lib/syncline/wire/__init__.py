"""Protobuf messages to values of the model and back, for both ends of a connection: each conversion is here once."""
