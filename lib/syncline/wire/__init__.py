"""Conversion between protobuf messages and values of the model, for both ends of a connection: each conversion exists
once.
"""
