"""Rates of what anybody may call: each call costs others, though there is nobody yet on whose account it goes.

A network is held to a rate for all of it together. Whoever holds a secret (a device its refresh tokens, a browser or a
program its key, a visitor a link) is held to one too. It is counted by the secret, not by the device that it names:
else somebody who only knows the name could use up what its owner may do. All have the secret of a link, so that there
the network counts as well.
"""

from __future__ import annotations

from runtime.permissions import Work
from runtime.rates import Rate, Rates


class AnonymousCalls:
    """Admits calls that come without an access token."""

    def __init__(self, *, per_network: Rate, per_secret: Rate) -> None:
        self._networks = Rates({Work.ANONYMOUS: per_network})
        self._secrets = Rates({Work.ANONYMOUS: per_secret})

    def admit(self, *, peer: str, secret: bytes | None = None) -> None:
        """Count a call from the network `peer` by who presents a secret, of which this is the digest. Raise
        RateExceeded.

        A call that is refused counts neither for the network nor for the secret.
        """
        self._networks.check(Work.ANONYMOUS, peer)
        if secret is not None:
            self._secrets.admit(Work.ANONYMOUS, secret.hex())
        self._networks.admit(Work.ANONYMOUS, peer)
