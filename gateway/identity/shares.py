"""The account on which a request takes from the pools that all requests share."""

from __future__ import annotations

from starlette.requests import Request

from gateway.identity.address import OwnAddress
from runtime.claims import read_claims
from runtime.pool import Share


def share_of(request: Request, token: str) -> Share:
    """The person or public link that a token names, which the services have accepted, in the network of a request."""
    own: OwnAddress = request.app.state.own
    return Share(read_claims(token).subject, own.network(request))
