"""REST: each module parses requests, calls the services, formats and returns.

The docstring of an operation is its description in `/openapi.json`, and so describes what a client sends. The arguments
that all operations have in common are described where they are declared: `caller` in `gateway/identity/caller.py`,
`name` in `idempotency.py`, and the arguments of pages in `paging.py`.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from gateway.api import (
    accounts,
    administration,
    contents,
    events,
    factors,
    history,
    invitations,
    links,
    nodes,
    passwords,
    spaces,
    trees,
    uploads,
)
from gateway.http.problems import MEDIA_TYPE

_PROBLEM: Final = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The request is wrong and must be changed."},
    401: {"description": "Nobody is signed in, or no longer."},
    403: {"description": "The caller may not do this, or the request came from another site."},
    404: {"description": "There is no such thing, or not for this caller."},
    408: {"description": "The body of the request did not arrive in time."},
    409: {"description": "The state moved on, or something is in the way: look again and decide anew."},
    412: {"description": "It is not in the state that `If-Match` names, or something must be changed first."},
    413: {"description": "The body of the request is too large."},
    414: {"description": "The address has more than 16 KiB."},
    415: {"description": "The body of the request is no JSON."},
    429: {"description": "A limit is reached: wait, as `retry-after` says; without it, remove something."},
    500: {"description": "A defect on our side; the request id finds it in the logs."},
    503: {"description": "A passing fault: the same request may be repeated."},
}


def router() -> APIRouter:
    """Return the router with all operations. Each operation may answer with any of the problems."""
    # Described as plain dictionaries rather than models: otherwise each operation would build a serialiser for each of
    # them.
    routes = APIRouter(responses={status: {**told, **_PROBLEM} for status, told in _PROBLEMS.items()})
    for module in (
        accounts,
        passwords,
        factors,
        spaces,
        invitations,
        nodes,
        trees,
        contents,
        history,
        uploads,
        links,
        events,
        administration,
    ):
        routes.include_router(module.router)
    return routes
