"""Metrics of auth."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

SIGN_UPS: Final = Counter("syncline_sign_ups", "Accounts made.")
SIGN_INS: Final = Counter(
    "syncline_sign_ins",
    "Sign-in attempts: `ok`; `failed`, with a wrong address or password; `limited`, refused by a limit; `suspended`, "
    "with the right password of an account that is suspended; `without_code`, with the right password and without a "
    "right code of the second factor.",
    ["outcome"],
)
PROOFS: Final = Counter(
    "syncline_proofs",
    "Proofs of addresses: `mailed`, asked for; `proven`; `refused`, used, expired or of another account; `taken`, of "
    "an address that was proven for another account.",
    ["outcome"],
)
PASSWORD_CHANGES: Final = Counter(
    "syncline_password_changes",
    "Changes of passwords: `changed`, on a signed-in device; `reset`, by a reset; `refused`, with a wrong current "
    "password.",
    ["outcome"],
)
FACTORS: Final = Counter(
    "syncline_second_factors",
    "Second factors: `added`; `removed`; `recovery_code_used`; `refused`, a code that was wrong or used.",
    ["outcome"],
)
RESETS: Final = Counter(
    "syncline_resets",
    "Resets of passwords: `asked`, asked for, also for addresses without an account; `spent`; `refused`, used, expired "
    "or overtaken by a change.",
    ["outcome"],
)
LINK_OPENINGS: Final = Counter(
    "syncline_link_openings",
    "Openings of public links: `ok`; `failed`, with a wrong password; `limited`, refused by a limit.",
    ["outcome"],
)
LIMITS_REACHED: Final = Counter(
    "syncline_limits_reached",
    "Things that were not added, for there are as many as one person or one space may have, by `limit`; with `devices` "
    "the device was signed in, and the one that was unused for longest signed out.",
    ["limit"],
)
COPIES: Final = Counter(
    "syncline_refresh_tokens_copied", "Devices that were signed out because a refresh token was used twice."
)
CREDENTIALS: Final = Counter(
    "syncline_credentials_issued",
    "Issued S3 credentials, by access, and by source: `sts` or `memory`.",
    ["access", "source"],
)
UPLOADS_REFUSED: Final = Counter(
    "syncline_uploads_refused", "Credentials to write that were refused because the space is closed to uploads."
)
