"""The claims of a token, without their proof: the gateway needs neither keys nor the libraries that prove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runtime.permissions import CallerKind

INTERNAL_AUDIENCE: Final = "syncline-internal"
"""The claim `aud` of the token of a service."""
PROGRAM: Final = "program"
"""The claim `knd` of the access token of a program's key."""


def claimed_kind(claims: Mapping[str, Any]) -> CallerKind:
    """The kind of caller whose token has these claims; whether they are true is for others to prove.

    A token that claims nothing more is a session's.
    """
    if claims.get("aud") == INTERNAL_AUDIENCE:
        return CallerKind.SERVICE
    if "spc" in claims or "nod" in claims:
        return CallerKind.VISITOR
    return CallerKind.PROGRAM if claims.get("knd") == PROGRAM else CallerKind.SESSION
