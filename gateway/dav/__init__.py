"""WebDAV, classes 1 and 2, at `/dav/`: the caller's spaces by alias, for programs that mount folders without a Syncline
client.

WsgiDAV implements the protocol (`protocol.py` lists our deviations) on a few threads. `session.py` is one request's
view of the services, always on behalf of the caller. Contents stream in both directions with bounded memory and are
never stored on disk.
"""
