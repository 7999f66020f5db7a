"""The identity of the caller, available throughout one call and forwarded to the next service."""

from __future__ import annotations

import math
from collections.abc import Set
from contextvars import ContextVar
from dataclasses import dataclass, field

from runtime.permissions import BEYOND_LINK, CallerKind
from syncline.model.accounts import KeyScope
from syncline.model.errors import PermissionDenied, Unauthenticated
from syncline.model.identifiers import DeviceId, LinkId, NodeId, SpaceId, UserId


@dataclass(frozen=True, slots=True)
class LinkScope:
    """The scope of a public link: read access to one node of a space and everything below it."""

    link: LinkId
    space: SpaceId
    node: NodeId


@dataclass(frozen=True, slots=True)
class Identity:
    """The verified caller of a call: a person's device, a service, or a visitor of a public link.

    - A device has `user` and `device`. A program with a key also has `scopes`, those of the key, of which there is one
      at least; for any other device they are empty.
    - A service that acts on its own behalf has `service`, its name; `user` and `device` are empty.
    - A visitor has `link`; `user` and `device` are empty. Visitors who opened a link from the same network have the
      same `visitor`.

    `token` is the presented access or service token, with which the process can call other services on the caller's
    behalf until `expires_at`, in seconds since 1970.
    """

    user: UserId
    device: DeviceId
    service: str | None = None
    link: LinkScope | None = None
    scopes: Set[KeyScope] = frozenset()
    visitor: str = ""
    token: str = field(default="", repr=False, compare=False)
    expires_at: float = field(default=math.inf, compare=False)

    @property
    def kind(self) -> CallerKind:
        """The kind of this caller, which decides which operations the caller may use."""
        if self.service is not None:
            return CallerKind.SERVICE
        if self.link is not None:
            return CallerKind.VISITOR
        return CallerKind.PROGRAM if self.scopes else CallerKind.SESSION

    @property
    def account(self) -> str:
        """The name of the account that requests of this caller are charged to: limits and pools count by it.

        A person has one account for all devices. The visitors of a public link from one network share an account.
        """
        if self.link is not None:
            return f"link {self.link.link} {self.visitor}"
        return self.user or f"service {self.service}"


# Each call runs in its own task and so in its own context, so that the variable need not be reset.
_identity: ContextVar[Identity | None] = ContextVar("identity", default=None)


def set_identity(identity: Identity | None) -> None:
    """Record the verified caller for the rest of the current call; None for a call without one."""
    _identity.set(identity)


def find_identity() -> Identity | None:
    """Return the verified caller of the current call. Return None outside of a call, and in a call of a method that is
    open to anybody.
    """
    return _identity.get()


def current_identity() -> Identity:
    """Return the verified caller: a person, a service or a public link. Raise Unauthenticated if there is none."""
    identity = _identity.get()
    if identity is None:
        raise Unauthenticated
    return identity


def current_user() -> Identity:
    """Return the verified caller, who is a person. Raise Unauthenticated without a caller, and PermissionDenied if the
    caller is a service or the visitor of a public link.
    """
    identity = current_reader()
    if identity.link is not None:
        raise PermissionDenied(BEYOND_LINK)
    return identity


def current_reader() -> Identity:
    """Return the verified caller, a person or the visitor of a public link. Raise Unauthenticated without a caller, and
    PermissionDenied if the caller is a service.

    The calling operation has to check that a visitor stays within the scope of the link (`Identity.link`).
    """
    identity = current_identity()
    if identity.service is not None:
        raise PermissionDenied("only a signed-in user can do this")
    return identity


def current_link() -> LinkScope:
    """Return the scope of the public link whose visitor is the verified caller. Raise Unauthenticated without a caller,
    and PermissionDenied for any other caller.
    """
    link = current_identity().link
    if link is None:
        raise PermissionDenied("only a public link can do this")
    return link


def current_service() -> str:
    """Return the name of the service that is the verified caller. Raise Unauthenticated without a caller, and
    PermissionDenied for any other caller.
    """
    service = current_identity().service
    if service is None:
        raise PermissionDenied("only another service can do this")
    return service


def forwarded_token() -> str | None:
    """Return the token that the caller presented, for calls to other services on behalf of the caller; None without a
    verified caller.
    """
    identity = _identity.get()
    return identity.token if identity is not None else None
