"""The share that a request is charged to in pools."""

from __future__ import annotations

from starlette.requests import Request

from gateway.identity.address import OwnAddress
from runtime.claims import read_claims
from runtime.pool import Share


def share_of(request: Request, token: str) -> Share:
    """Return the share of a request: the person or public link in the access token `token`, which a service has
    accepted, and the network of the request.
    """
    own: OwnAddress = request.app.state.own
    return Share(read_claims(token).subject, own.network(request))
