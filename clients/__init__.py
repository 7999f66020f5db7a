"""What runs on a device: the typed wrapper of the services, the transfer of bytes, the engine and the command line."""
