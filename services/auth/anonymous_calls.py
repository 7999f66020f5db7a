"""Rate limits of calls without an access token: each call costs resources, although there is no caller to charge it to.

Each call counts for two limits:

- The network that the call comes from has one limit for all such calls together.
- The secret that the call presents, if any, has a limit of its own. A secret is a device's refresh token, the key of a
  browser or a program, or the token of a link.

The call is counted for the secret, and not for the device that the secret names: otherwise anybody who knows the id of
the device could exhaust its owner's limit. All visitors of a link present the same token, so that the limit of the
secret alone could not tell one visitor from another.
"""

from __future__ import annotations

from runtime.permissions import Work
from runtime.rates import Rate, Rates


class AnonymousCalls:
    """Counts the calls that carry no access token, such as sign-ins and the renewal of access tokens, and refuses those
    that exceed the rate of their network or of the secret that they present.
    """

    def __init__(self, *, per_network: Rate, per_secret: Rate) -> None:
        """`per_network` is the rate of all such calls of one network, and `per_secret` of those with one secret."""
        self._networks = Rates({Work.ANONYMOUS: per_network})
        self._secrets = Rates({Work.ANONYMOUS: per_secret})

    def admit(self, *, peer: str, secret: bytes | None = None) -> None:
        """Count a call from the network `peer`, and for `secret`, the digest of the presented secret; None if the call
        presents none. Raise RateExceeded if the network or the secret exceeds its rate limit.

        A refused call counts neither for the network nor for the secret.
        """
        self._networks.check(Work.ANONYMOUS, peer)
        if secret is not None:
            self._secrets.admit(Work.ANONYMOUS, secret.hex())
        self._networks.admit(Work.ANONYMOUS, peer)
