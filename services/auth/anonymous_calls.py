"""Rate limits of calls without authentication: each call costs resources, although there is no caller to charge it to.

A network has one rate limit for all such calls together. A secret (a device's refresh token, the key of a browser or a
program, the token of a link) has a rate limit as well. Such calls are counted by the secret, not by the device that the
secret names: otherwise anybody who knows the id of the device could exhaust its owner's limit. All visitors of a link
share its token, so for links the network counts as well.
"""

from __future__ import annotations

from runtime.permissions import Work
from runtime.rates import Rate, Rates


class AnonymousCalls:
    """Admits calls that carry no access token."""

    def __init__(self, *, per_network: Rate, per_secret: Rate) -> None:
        self._networks = Rates({Work.ANONYMOUS: per_network})
        self._secrets = Rates({Work.ANONYMOUS: per_secret})

    def admit(self, *, peer: str, secret: bytes | None = None) -> None:
        """Count a call from the network `peer`; `secret` is the digest of the presented secret. Raise RateExceeded if
        the network or the secret exceeds its rate.

        A refused call counts neither for the network nor for the secret.
        """
        self._networks.check(Work.ANONYMOUS, peer)
        if secret is not None:
            self._secrets.admit(Work.ANONYMOUS, secret.hex())
        self._networks.admit(Work.ANONYMOUS, peer)
