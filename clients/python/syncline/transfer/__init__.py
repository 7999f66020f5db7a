"""Transfer of bytes between files and object storage. Upload: cut, pack, put, seal. Download: get, verify, write."""
