"""Transfer of bytes between files and object storage: cut, pack, put, seal; get, verify, write."""
