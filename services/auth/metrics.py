"""Metrics of auth."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

SIGN_UPS: Final = Counter("syncline_sign_ups", "Accounts made.")
SIGN_INS: Final = Counter(
    "syncline_sign_ins",
    "Attempts to sign in: `ok`; `failed`, for address or password are wrong; `limited`, not looked at.",
    ["outcome"],
)
LINK_OPENINGS: Final = Counter(
    "syncline_link_openings",
    "Public links opened: `ok`; `failed`, for the password is wrong; `limited`, not looked at.",
    ["outcome"],
)
LIMITS_REACHED: Final = Counter(
    "syncline_limits_reached",
    "Things that were not added, for there are as many as one person or one space may have, by `limit`; with `devices` "
    "the device was signed in, and the one that was unused for longest signed out.",
    ["limit"],
)
COPIES: Final = Counter("syncline_refresh_tokens_copied", "Devices signed out, as a refresh token came a second time.")
CREDENTIALS: Final = Counter(
    "syncline_credentials_issued", "S3 credentials handed out, by access; `sts` or from `memory`.", ["access", "source"]
)
UPLOADS_REFUSED: Final = Counter(
    "syncline_uploads_refused", "Credentials to write that were refused, since the space has no room for uploads."
)
