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

    def admits(self, email: str) -> bool:
        """Return True if people with the normalised address `email` may sign up without an invitation."""
        match self.policy:
            case SignUpPolicy.OPEN:
                return True
            case SignUpPolicy.INVITED:
                return False
            case SignUpPolicy.DOMAINS:
                return domain_of(email) in self.domains

    def check(self, email: str) -> None:
        """Raise SignUpClosed if nobody with the normalised address `email` may sign up. The answer depends on the
        domain of the address alone, and tells nothing about accounts.
        """
        if self.admits(email):
            return
        if self.policy is SignUpPolicy.DOMAINS:
            raise SignUpClosed(f"only people with an e-mail address of {self._listed()} can sign up; use one")
        raise SignUpClosed

    def _listed(self) -> str:
        told = ", ".join(self.domains[:_TOLD_DOMAINS])
        return told if len(self.domains) <= _TOLD_DOMAINS else f"{told} or {len(self.domains) - _TOLD_DOMAINS} more"
