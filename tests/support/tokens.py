"""Tokens with any claims, which nobody has signed: for what goes by claims alone, and for what must refuse them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any


def segment(value: Any) -> str:
    """A part of a token: `value` as JSON, or bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unproven_token(**claims: Any) -> str:
    """A token of a session with these claims in place of the usual ones; None leaves a claim out. It lasts for a day,
    since a test may run long after its module was loaded.
    """
    usual = {"iss": "syncline", "aud": "syncline", "sub": "u" * 26, "dev": "d" * 26, "exp": int(time.time()) + 86_400}
    told = {name: value for name, value in (usual | claims).items() if value is not None}
    return ".".join((segment({"alg": "EdDSA", "kid": "k1"}), segment(told), segment(b"signature")))
