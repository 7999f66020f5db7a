"""Parsing of the claims of a JWT, and the check that each has the right type, before its signature is verified.

The gateway uses claims that a service verifies later, and so needs neither keys nor a cryptography library. Services
parse a token here before they verify its signature. No other module parses tokens, so that a claim of a wrong type is
always refused.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn

from runtime.identity import LinkScope
from runtime.permissions import CallerKind
from syncline.model.accounts import KeyScope
from syncline.model.errors import InvalidArgument, TokenInvalid, TokenMalformed
from syncline.model.identifiers import DeviceId, LinkId, NodeId, SpaceId, parse_id, parse_text_id

AUDIENCE: Final = "syncline"
"""The claim `aud` of the access token of a person or of a public link."""
INTERNAL_AUDIENCE: Final = "syncline-internal"
"""The claim `aud` of the token of a service."""
PROGRAM: Final = "program"
"""The claim `knd` of the access token of a program's key."""
_OLD_SCOPES: Final = frozenset({KeyScope.READ, KeyScope.WRITE})
"""The scopes of a program whose access token was issued by the preceding release, and names none."""
SERVICE_PREFIX: Final = "service:"
"""Prefix of the claim `sub` in the token of a service."""
MAX_TOKEN_CHARACTERS: Final = 4096
"""Maximum length of a token, in characters: several times the longest that is issued, and a quarter of the maximum
metadata of a call.
"""
MAX_EXPIRY_SECONDS: Final = 1 << 40
"""Maximum of the claim `exp`, in seconds since 1970: beyond any real date, and exactly representable as a float."""

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
_NO_DEVICE: Final = DeviceId("")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SERVICE: Final = re.compile(rf"{SERVICE_PREFIX}[a-z]{{1,32}}")
_NODE: Final = re.compile(r"[0-9a-f]{32}")
_SCOPE: Final = "|".join(scope.value for scope in KeyScope)
_SCOPES: Final = re.compile(rf"(?:{_SCOPE})(?: (?:{_SCOPE})){{0,{len(KeyScope) - 1}}}")
_VISITOR: Final = re.compile(r"[0-9A-Za-z]{0,64}")


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one token, each of the right type and form. They prove nothing before the signature of the token
    has been verified.

    `subject` is the id of a user or public link, or `service:` and the name of a service. `device` is empty, and `link`
    None, for kinds of callers that have none. `algorithm` and `key_id` are the claimed algorithm and key of the
    signature; `key_id` is empty for a token that names no key.
    """

    kind: CallerKind
    subject: str
    expires_at: float
    """The time at which the token expires, in seconds since 1970."""
    algorithm: str
    key_id: str = ""
    device: DeviceId = _NO_DEVICE
    scopes: Set[KeyScope] = frozenset()
    """The scopes of a program's key, of which there is one at least; empty for other callers."""
    link: LinkScope | None = None
    visitor: str = field(default="", repr=False)


def read_claims(token: str) -> Claims:
    """Return the claims of a token, in time that is linear in its length.

    Raise TokenMalformed for a text that is no token or is too long, and TokenInvalid for claims that no issued token
    has.
    """
    found = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
    if found is None:
        raise TokenMalformed("the access token is malformed; sign in again")
    header, claims = _object(found[1]), _object(found[2])
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(key_id, str) or not (key_id == "" or _KEY_ID.fullmatch(key_id)):
        raise TokenMalformed("the access token is malformed; sign in again")
    expires_at = claims.get("exp")
    if type(expires_at) is not int or not 0 <= expires_at <= MAX_EXPIRY_SECONDS:
        _refuse()
    claimed = partial(Claims, expires_at=float(expires_at), algorithm=algorithm, key_id=key_id)
    match claims.get("aud"):
        case str(audience) if audience == INTERNAL_AUDIENCE:
            return claimed(CallerKind.SERVICE, _text(claims, "sub", _SERVICE))
        case str(audience) if audience == AUDIENCE:
            pass
        case _:
            _refuse()
    if "spc" in claims or "nod" in claims:
        if "dev" in claims or "knd" in claims:  # either a device or a public link, never both
            _refuse()
        scope = LinkScope(LinkId(_id(claims, "sub")), SpaceId(_id(claims, "spc")), _node_id(claims))
        visitor = _text(claims, "vis", _VISITOR) if "vis" in claims else ""
        return claimed(CallerKind.VISITOR, scope.link, link=scope, visitor=visitor)
    if claims.get("knd", PROGRAM) != PROGRAM or ("scp" in claims and "knd" not in claims):
        _refuse()
    kind = CallerKind.PROGRAM if "knd" in claims else CallerKind.SESSION
    scopes = _scopes(claims) if kind is CallerKind.PROGRAM else frozenset[KeyScope]()
    return claimed(kind, _id(claims, "sub"), device=DeviceId(_id(claims, "dev")), scopes=scopes)


def _object(segment: str) -> Mapping[str, Any]:
    """Return the JSON object in `segment`, a part of a token. Raise TokenMalformed if it is no JSON object in
    base64url.
    """
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        # Issued tokens contain only strings and numbers. Nested JSON is refused before it is parsed.
        if raw.count(b"{") + raw.count(b"[") == 1 and isinstance(found := json.loads(raw.decode()), dict):
            return found
    except ValueError:  # invalid base64, UTF-8 or JSON, or a number with too many digits
        pass
    raise TokenMalformed("the access token is malformed; sign in again")


def _text(claims: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        _refuse()
    return value


def _id(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    try:
        return parse_text_id(value if isinstance(value, str) else "", what=name)
    except InvalidArgument:
        _refuse()


def _node_id(claims: Mapping[str, Any]) -> NodeId:
    return NodeId(parse_id(bytes.fromhex(_text(claims, "nod", _NODE)), what="nod"))


def _scopes(claims: Mapping[str, Any]) -> frozenset[KeyScope]:
    if "scp" not in claims:
        return _OLD_SCOPES
    return frozenset(KeyScope(word) for word in _text(claims, "scp", _SCOPES).split(" "))


def _refuse() -> NoReturn:
    raise TokenInvalid("the access token is not valid; sign in again") from None
