"""The identity of the caller: known everywhere within one call, and passed on to the next service."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass, field

from runtime.permissions import BEYOND_LINK, CallerKind
from syncline.model.errors import PermissionDenied, Unauthenticated
from syncline.model.identifiers import DeviceId, LinkId, NodeId, SpaceId, UserId


@dataclass(frozen=True, slots=True)
class LinkScope:
    """The scope of a public link: a node of a space with all that is below it, for reading."""

    link: LinkId
    space: SpaceId
    node: NodeId


@dataclass(frozen=True, slots=True)
class Identity:
    """The verified caller.

    A person's device has `user` and `device`, and `program` if it is a program with a key; a service that acts on its
    own behalf has `service`, and whoever opened a public link has `link`, and both others are empty. Visitors who
    opened a link from one network have the same `visitor`. `token` is what was presented, so that a call can go on in
    the caller's name, until `expires_at`, seconds since 1970.
    """

    user: UserId
    device: DeviceId
    service: str | None = None
    link: LinkScope | None = None
    program: bool = False
    visitor: str = ""
    token: str = field(default="", repr=False, compare=False)
    expires_at: float = field(default=math.inf, compare=False)

    @property
    def kind(self) -> CallerKind:
        """The kind of this caller, which decides the operations that are open to it."""
        if self.service is not None:
            return CallerKind.SERVICE
        if self.link is not None:
            return CallerKind.VISITOR
        return CallerKind.PROGRAM if self.program else CallerKind.SESSION

    @property
    def account(self) -> str:
        """The account on which requests of this caller count.

        The account is the person, whichever the device; the visitors of a public link from one network; or the service.
        """
        if self.link is not None:
            return f"link {self.link.link} {self.visitor}"
        return self.user or f"service {self.service}"


# Each call runs in a task of its own and so in a context of its own: nothing is ever reset.
_identity: ContextVar[Identity | None] = ContextVar("identity", default=None)


def set_identity(identity: Identity | None) -> None:
    """Bind the verified caller for the rest of this call."""
    _identity.set(identity)


def find_identity() -> Identity | None:
    """The verified caller, or None for a public method or outside of a call."""
    return _identity.get()


def current_identity() -> Identity:
    """The verified caller, a person, a service or a public link; raises Unauthenticated if there is none."""
    identity = _identity.get()
    if identity is None:
        raise Unauthenticated
    return identity


def current_user() -> Identity:
    """The verified caller, who is a person; raises Unauthenticated, or PermissionDenied for a service or a link."""
    identity = current_reader()
    if identity.link is not None:
        raise PermissionDenied(BEYOND_LINK)
    return identity


def current_reader() -> Identity:
    """The verified caller, a person or a public link; raises Unauthenticated, or PermissionDenied for a service.

    What is done for a link must stay within its scope.
    """
    identity = current_identity()
    if identity.service is not None:
        raise PermissionDenied("only a signed-in user can do this")
    return identity


def current_link() -> LinkScope:
    """Return the scope of the calling public link. Raise Unauthenticated without a caller, PermissionDenied for any
    other caller.
    """
    link = current_identity().link
    if link is None:
        raise PermissionDenied("only a public link can do this")
    return link


def current_service() -> str:
    """The name of the calling service; raises Unauthenticated, or PermissionDenied for anybody else."""
    service = current_identity().service
    if service is None:
        raise PermissionDenied("only another service can do this")
    return service


def forwarded_token() -> str | None:
    """The caller's own token, for calls to other services in the caller's name."""
    identity = _identity.get()
    return identity.token if identity is not None else None
