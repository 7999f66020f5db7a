"""WebDAV, classes 1 and 2, at `/dav/`: the caller's spaces by alias, for what mounts folders and knows nothing of us.

WsgiDAV has the protocol (`protocol.py` says where we go our own way), on a few threads. `session.py` is one request's
view of the services, always in the caller's name. Contents stream both ways in bounded memory and are never on disk.
"""
