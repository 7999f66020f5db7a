"""The domain that clients and servers share: pure values and functions, no I/O, no wire format, no cloud."""
