"""Events that metadata publishes to the topic of changes: at least once, in any order, with ranges that may overlap.
Auth leaves requests for mail in the mail queue, which delivers them at least once as well.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from syncline.model.accounts import Role
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId, UserId, parse_text_id

_VERSION: Final = 1
_PROOF: Final = "proof"
"""The kind of a message by which auth asks for the mail with a proof. Announcements have no kind."""
_INVITATION: Final = "invitation"
"""The kind of a message by which auth asks for the mail with an invitation."""
_SPACE_INVITATION: Final = "space invitation"
"""The kind of a message by which auth asks for the mail with an invitation to a space."""
_RESET: Final = "reset"
"""The kind of a message by which auth asks for the mail with a reset of a password."""
_PASSWORD: Final = "password"  # noqa: S105 - a kind of mail
"""The kind of a message by which auth asks for the mail about a changed password."""
_FACTOR: Final = "factor"
"""The kind of a message by which auth asks for the mail about a changed second factor."""
FACTOR_CHANGES: Final = frozenset({"added", "removed", "recovery code used"})
"""The changes of a second factor of which auth tells."""
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+")
_ROLES: Final = frozenset(role.name.lower() for role in Role)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class MalformedEvent(ValueError):
    """The message is not an event of a known version."""


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """Summary of the changes of one request: counts of nodes, and the names of the first few."""

    seq: int
    user: UserId
    created: int
    updated: int
    moved: int
    deleted: int
    restored: int
    names: tuple[str, ...]

    @property
    def changes(self) -> int:
        """Number of changes."""
        return self.created + self.updated + self.moved + self.deleted + self.restored


@dataclass(frozen=True, slots=True)
class Event:
    """The announcement that the head of a space has advanced to `to_seq`. If `truncated`, the announcement does not
    list all commits.
    """

    space: SpaceId
    to_seq: int
    commits: tuple[CommitSummary, ...]
    truncated: bool
    traceparent: str | None = None
    """The `traceparent` (W3C Trace Context) of the span that published the announcement; None if it was not traced."""

    @property
    def sender(self) -> str:
        """The account that mail about this event is charged to: the person who made most of its commits, or the space
        if it lists no commits.
        """
        most = Counter(commit.user for commit in self.commits).most_common(1)
        return most[0][0] if most else self.space


@dataclass(frozen=True, slots=True)
class ProofAsked:
    """The request of auth to mail a proof of an address. `token` is None if another account of the address is proven.

    `ident` is unique, and the proof is valid until `expires_at_ms`, in milliseconds since 1970.
    """

    ident: str
    user: UserId
    to: str
    token: str | None = field(repr=False)
    expires_at_ms: int
    traceparent: str | None = None

    @property
    def sender(self) -> str:
        """The account that the mail is charged to."""
        return self.user


@dataclass(frozen=True, slots=True)
class InvitationAsked:
    """The request of auth to mail an invitation to make an account. The fields are as in ProofAsked."""

    ident: str
    to: str
    token: str = field(repr=False)
    expires_at_ms: int
    traceparent: str | None = None

    @property
    def sender(self) -> str:
        """The account that the mail is charged to: nobody else's."""
        return self.ident


@dataclass(frozen=True, slots=True)
class SpaceInvitationAsked:
    """The request of auth to mail an invitation to a space. `user` is the owner who invites, `by` the address of that
    owner, and `role` the name of the role that is offered. The other fields are as in ProofAsked.
    """

    ident: str
    user: UserId
    by: str
    space_name: str
    role: str
    to: str
    token: str = field(repr=False)
    expires_at_ms: int
    traceparent: str | None = None

    @property
    def sender(self) -> str:
        """The account that the mail is charged to."""
        return self.user


@dataclass(frozen=True, slots=True)
class ResetAsked:
    """The request of auth to mail a reset of a password. `token` is None if the address has no proven account: then
    nothing is mailed. The other fields are as in ProofAsked.
    """

    ident: str
    to: str
    token: str | None = field(repr=False)
    expires_at_ms: int
    traceparent: str | None = None

    @property
    def sender(self) -> str:
        """The account that the mail is charged to: nobody else's."""
        return self.ident


@dataclass(frozen=True, slots=True)
class PasswordAsked:
    """The request of auth to tell the owner of an account that its password was changed at `changed_at_ms`, in
    milliseconds since 1970. `by_reset` is True if it was changed by a reset. Nothing is mailed after `expires_at_ms`.
    The other fields are as in ProofAsked.
    """

    ident: str
    user: UserId
    to: str
    by_reset: bool
    changed_at_ms: int
    expires_at_ms: int
    traceparent: str | None = None

    @property
    def sender(self) -> str:
        """The account that the mail is charged to."""
        return self.user


@dataclass(frozen=True, slots=True)
class FactorAsked:
    """The request of auth to tell the owner of an account that its second factor was changed at `changed_at_ms`, in
    milliseconds since 1970. `change` is "added", "removed" or "recovery code used". Nothing is mailed after
    `expires_at_ms`. The other fields are as in ProofAsked.
    """

    ident: str
    user: UserId
    to: str
    change: str
    changed_at_ms: int
    expires_at_ms: int
    traceparent: str | None = None

    @property
    def sender(self) -> str:
        """The account that the mail is charged to."""
        return self.user


AccountMailAsked: TypeAlias = (
    ProofAsked | InvitationAsked | SpaceInvitationAsked | ResetAsked | PasswordAsked | FactorAsked
)
"""A request of auth to mail something to one address."""


def parse_mail(body: str) -> Event | AccountMailAsked:
    """Return the announcement or the request in the body of a message of the mail queue. Raise MalformedEvent, with the
    reason, for any other text. The reason contains no token.
    """
    raw = _json(body)
    kind = raw.get("kind") if isinstance(raw, Mapping) else None
    if kind == _PROOF:
        return _proof(raw)
    if kind == _INVITATION:
        return _invitation(raw)
    if kind == _SPACE_INVITATION:
        return _space_invitation(raw)
    if kind == _RESET:
        return _reset(raw)
    if kind == _PASSWORD:
        return _password(raw)
    if kind == _FACTOR:
        return _factor(raw)
    return _event(raw)


def parse(body: str) -> Event:
    """Return the announcement in a message's body. Raise MalformedEvent, with the reason, for any other text. Unknown
    fields are ignored.
    """
    return _event(_json(body))


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"it is not JSON: {error}") from None


def _proof(raw: Mapping[str, Any]) -> ProofAsked:
    ident, to, until = _addressed(raw)
    token = None if raw.get("token") is None else _token(raw)
    return ProofAsked(ident, UserId(_id(raw.get("user"), what="user")), to, token, until)


def _invitation(raw: Mapping[str, Any]) -> InvitationAsked:
    ident, to, until = _addressed(raw)
    return InvitationAsked(ident, to, _token(raw), until)


def _space_invitation(raw: Mapping[str, Any]) -> SpaceInvitationAsked:
    ident, to, until = _addressed(raw)
    role = raw.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise MalformedEvent("role is no role")
    return SpaceInvitationAsked(
        ident=ident,
        user=UserId(_id(raw.get("user"), what="user")),
        by=_address(raw.get("by"), what="by"),
        space_name=_text(raw.get("space_name")),
        role=role,
        to=to,
        token=_token(raw),
        expires_at_ms=until,
    )


def _reset(raw: Mapping[str, Any]) -> ResetAsked:
    ident, to, until = _addressed(raw)
    return ResetAsked(ident, to, None if raw.get("token") is None else _token(raw), until)


def _password(raw: Mapping[str, Any]) -> PasswordAsked:
    ident, to, until = _addressed(raw)
    user = UserId(_id(raw.get("user"), what="user"))
    by_reset = raw.get("by_reset")
    if not isinstance(by_reset, bool):
        raise MalformedEvent("by_reset is no truth value")
    return PasswordAsked(ident, user, to, by_reset, _count(raw.get("changed_at_ms"), what="changed_at_ms"), until)


def _factor(raw: Mapping[str, Any]) -> FactorAsked:
    ident, to, until = _addressed(raw)
    user = UserId(_id(raw.get("user"), what="user"))
    change = raw.get("change")
    if not isinstance(change, str) or change not in FACTOR_CHANGES:
        raise MalformedEvent("change is no change of a second factor")
    return FactorAsked(ident, user, to, change, _count(raw.get("changed_at_ms"), what="changed_at_ms"), until)


def _addressed(raw: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return the id, the address and the time of expiry of a request for mail."""
    if raw.get("v") != _VERSION:
        raise MalformedEvent("a request of another version")
    to = _address(raw.get("to"), what="to")
    return _id(raw.get("id"), what="id"), to, _count(raw.get("expires_at_ms"), what="expires_at_ms")


def _address(raw: Any, *, what: str) -> str:
    if not isinstance(raw, str) or _ADDRESS.fullmatch(raw) is None:
        raise MalformedEvent(f"{what} is no address")
    return raw


def _token(raw: Mapping[str, Any]) -> str:
    token = raw.get("token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise MalformedEvent("the token has another form")
    return token


def _event(raw: Any) -> Event:
    try:
        if raw["v"] != _VERSION:
            raise MalformedEvent(f"its version is {raw['v']!r}")
        return Event(
            space=SpaceId(_id(raw["space"], what="space")),
            to_seq=_count(raw["to_seq"], what="to_seq"),
            commits=tuple(map(_commit, raw["commits"])),
            truncated=bool(raw.get("truncated", False)),
            traceparent=None if raw.get("traceparent") is None else _text(raw["traceparent"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedEvent(f"a field is missing or of a wrong type: {error}") from None


def waiting_to_text(commits: Sequence[CommitSummary], *, truncated: bool) -> str:
    """Return the text in which the summaries of commits are stored until the next mail. `truncated` is True if their
    event has left some commits out; the text holds it as well.
    """
    kept = {"commits": [dataclasses.asdict(commit) for commit in commits], "truncated": truncated}
    return json.dumps(kept, separators=(",", ":"))


def waiting_from_text(text: str) -> tuple[tuple[CommitSummary, ...], bool]:
    """Return the summaries in a text that `waiting_to_text` has made, and True if their event has left some commits
    out.
    """
    kept = json.loads(text)
    return tuple(map(_commit, kept["commits"])), kept["truncated"]


def _commit(raw: Mapping[str, Any]) -> CommitSummary:
    return CommitSummary(
        seq=_count(raw["seq"], what="seq"),
        user=UserId(_id(raw["user"], what="user")),
        created=_count(raw["created"], what="created"),
        updated=_count(raw["updated"], what="updated"),
        moved=_count(raw["moved"], what="moved"),
        deleted=_count(raw["deleted"], what="deleted"),
        restored=_count(raw["restored"], what="restored"),
        names=tuple(_text(name) for name in raw["names"]),
    )


def _id(raw: Any, *, what: str) -> str:
    try:
        return parse_text_id(raw, what=what)
    except InvalidArgument as error:
        raise MalformedEvent(str(error)) from None


def _count(raw: Any, *, what: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < 0:
        raise MalformedEvent(f"{what} is {raw!r}")
    return raw


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise MalformedEvent(f"a name is {raw!r}")
    return raw
