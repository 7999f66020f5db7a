"""Protobuf messages to core values and back, for both ends of a connection: each conversion stands here once."""
