"""Admission: the rule by which people may make accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.auth.addresses import domain_of
from syncline.model.accounts import SignUpPolicy
from syncline.model.errors import SignUpClosed

_TOLD_DOMAINS: Final = 5
"""Number of domains that a refusal names; the discovery document lists all of them."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The people who may make an account. `domains` are normalised, and apply with the policy DOMAINS only."""

    policy: SignUpPolicy
    domains: tuple[str, ...] = ()

    def check(self, email: str) -> None:
        """Raise SignUpClosed if nobody with the normalised address `email` may sign up. The answer depends on the
        domain of the address alone, and tells nothing about accounts.
        """
        match self.policy:
            case SignUpPolicy.OPEN:
                return
            case SignUpPolicy.INVITED:
                raise SignUpClosed
            case SignUpPolicy.DOMAINS:
                if domain_of(email) not in self.domains:
                    raise SignUpClosed(f"only people with an e-mail address of {self._listed()} can sign up; use one")

    def _listed(self) -> str:
        told = ", ".join(self.domains[:_TOLD_DOMAINS])
        return told if len(self.domains) <= _TOLD_DOMAINS else f"{told} or {len(self.domains) - _TOLD_DOMAINS} more"
