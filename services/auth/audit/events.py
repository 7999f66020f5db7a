"""Security events: one value for each act that the audit log keeps, and its form as JSON.

An event names ids, never secrets: it has no token, password, digest or name of a file. The texts in `details` come from
callers (the names of devices and spaces, reasons); they are kept as they are, and escaped where they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from runtime.identity import Identity, find_identity
from runtime.network import current_network
from runtime.permissions import CallerKind
from syncline.model.identifiers import new_text_id
from syncline.rpc.request_ids import request_id

MAX_SUBJECTS: Final = 16
"""Maximum number of subjects of one event."""
MAX_DETAILS: Final = 8
"""Maximum number of details of one event."""
MAX_DETAIL_CHARACTERS: Final = 300
"""Maximum length of a subject or of a detail of an event, in characters; a longer one is cut."""

_AT_DIGITS: Final = 15


class AuditKind(StrEnum):
    """The kinds of events. A value is stored, published and never given another meaning.

    `catalogue.py` says which rpc causes which kinds.
    """

    ACCOUNT_CREATED = "account.created"
    ACCOUNT_SUSPENDED = "account.suspended"
    ACCOUNT_RESUMED = "account.resumed"
    ACCOUNT_QUOTA_SET = "account.quota_set"
    ADMINISTRATOR_ADDED = "administrator.added"
    ADMINISTRATOR_REMOVED = "administrator.removed"
    SIGN_UP_FAILED = "sign_up.failed"
    SIGNED_IN = "sign_in.succeeded"
    SIGN_IN_FAILED = "sign_in.failed"
    PROOF_REQUESTED = "proof.requested"
    PROOF_FAILED = "proof.failed"
    ADDRESS_PROVEN = "address.proven"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - a kind of event
    PASSWORD_RESET = "password.reset"  # noqa: S105 - a kind of event
    FACTOR_ADDED = "factor.added"
    FACTOR_REMOVED = "factor.removed"
    FACTOR_RECOVERY_CODE_USED = "factor.recovery_code_used"
    FACTOR_CODE_REFUSED = "factor.code_refused"
    INVITATION_CREATED = "invitation.created"
    DEVICE_SIGNED_OUT = "device.signed_out"
    DEVICE_ENDED = "device.ended"
    DEVICE_COPIED = "device.token_copied"
    DEVICE_MADE_WAY = "device.made_way"
    KEY_CREATED = "key.created"
    KEY_ENDED = "key.ended"
    SPACE_CREATED = "space.created"
    SPACE_RENAMED = "space.renamed"
    SPACE_DELETED = "space.deleted"
    SPACE_UNDELETED = "space.undeleted"
    SPACE_TRANSFERRED = "space.transferred"
    SPACE_QUOTA_SET = "space.quota_set"
    MEMBER_ADDED = "member.added"
    MEMBER_CHANGED = "member.changed"
    MEMBER_REMOVED = "member.removed"
    MEMBER_INVITED = "member.invited"
    MEMBER_INVITATION_ENDED = "member.invitation_ended"
    LINK_CREATED = "link.created"
    LINK_ENDED = "link.ended"
    LINK_PASSWORD_FAILED = "link.password_failed"  # noqa: S105 - a kind of event
    CREDENTIALS_ISSUED = "credentials.issued"


class AuditResult(StrEnum):
    """The outcome of an act."""

    DONE = "done"
    REFUSED = "refused"


class ActorKind(StrEnum):
    """The kind of caller that acted.

    - SESSION, PROGRAM, VISITOR, SERVICE and ANONYMOUS are the kinds of `runtime.permissions`.
    - OPERATOR is a command that is run with auth's role on a machine of auth.
    - PROCESS is the service by itself, for example when it completes what a process that was killed had begun.
    """

    ANONYMOUS = "anonymous"
    SESSION = "session"
    PROGRAM = "program"
    VISITOR = "visitor"
    SERVICE = "service"
    OPERATOR = "operator"
    PROCESS = "process"


_KINDS: Final[Mapping[CallerKind, ActorKind]] = {
    # An administrator is a session by its token; the account says more.
    kind: ActorKind.SESSION if kind is CallerKind.ADMINISTRATOR else ActorKind[kind.name]
    for kind in CallerKind
}


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller that acted. `user` and `device` are those of a person, and empty for others. `name` is the name of a
    service, or the id of the link of a visitor.
    """

    kind: ActorKind
    user: str = ""
    device: str = ""
    name: str = ""

    @classmethod
    def of(cls, identity: Identity | None) -> Actor:
        """Return the actor that is the verified caller `identity`; None stands for an anonymous caller."""
        if identity is None:
            return ANONYMOUS
        name = identity.service or (identity.link.link if identity.link is not None else "")
        return cls(_KINDS[identity.kind], identity.user, identity.device, name)


ANONYMOUS: Final = Actor(ActorKind.ANONYMOUS)
OPERATOR: Final = Actor(ActorKind.OPERATOR)
PROCESS: Final = Actor(ActorKind.PROCESS)


class SubjectKind(StrEnum):
    """The kind of thing or person that an event is about."""

    USER = "user"
    ADDRESS = "address"
    DEVICE = "device"
    SPACE = "space"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing or person that an event is about: the kind, and the id or the normalised e-mail address."""

    kind: SubjectKind
    ident: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event of the audit log.

    - `ident` is unique, and `at_ms` is the time of the act in milliseconds since 1970.
    - `kind` is a value of AuditKind; a text, because a later release may have written another one.
    - `network` is the network of the caller, and `request` the id of the request in the logs; empty without one.
    - `count` is the number of acts, all of the same kind and reason, that the event stands for.
    """

    ident: str
    at_ms: int
    kind: str
    actor: Actor
    subjects: tuple[Subject, ...] = ()
    network: str = ""
    request: str = ""
    result: AuditResult = AuditResult.DONE
    count: int = 1
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The key by which events are sorted: the time, and among events of one time the id."""
        return place_at(self.at_ms) + self.ident

    @property
    def parties(self) -> frozenset[str]:
        """The ids and addresses of all whom the event concerns: its actor and its subjects."""
        actor = {self.actor.user, self.actor.device, self.actor.name} - {""}
        return frozenset(actor | {subject.ident for subject in self.subjects})


def place_at(at_ms: int) -> str:
    """Return a text that sorts before the places of all events at or after `at_ms`, in milliseconds since 1970, and
    after those of all earlier events.
    """
    return f"{at_ms:0{_AT_DIGITS}}"


def audit_event(
    kind: AuditKind,
    *,
    at_ms: int,
    actor: Actor | None = None,
    result: AuditResult = AuditResult.DONE,
    user: str | None = None,
    address: str | None = None,
    device: str | None = None,
    space: str | None = None,
    link: str | None = None,
    **details: str,
) -> AuditEvent:
    """Return the event of an act, to be stored in the transaction of the act (the argument `events` of a store).

    The actor is the verified caller of the current call, unless `actor` is given; the network and the request id are
    those of the call. `user`, `address`, `device`, `space` and `link` are the subjects. `details` are a few short texts
    about the act. No argument may be, or contain, a secret.
    """
    assert len(details) <= MAX_DETAILS, "details are few"
    given = {"user": user, "address": address, "device": device, "space": space, "link": link}
    return AuditEvent(
        new_text_id(),
        at_ms,
        kind.value,
        Actor.of(find_identity()) if actor is None else actor,
        tuple(Subject(SubjectKind(what), ident[:MAX_DETAIL_CHARACTERS]) for what, ident in given.items() if ident),
        current_network(),
        request_id() or "",
        result,
        details={name: text[:MAX_DETAIL_CHARACTERS] for name, text in details.items() if text},
    )


def event_to_json(event: AuditEvent) -> str:
    """Return the event as JSON in one line of ASCII, in which it is stored and exported."""
    told = {
        "id": event.ident,
        "at_ms": event.at_ms,
        "kind": event.kind,
        "result": event.result.value,
        "actor": {
            name: value
            for name, value in {
                "kind": event.actor.kind.value,
                "user": event.actor.user,
                "device": event.actor.device,
                "name": event.actor.name,
            }.items()
            if value
        },
        "subjects": [{"kind": subject.kind.value, "id": subject.ident} for subject in event.subjects],
        "network": event.network,
        "request_id": event.request,
        "count": event.count,
        "details": dict(event.details),
    }
    return json.dumps(told, separators=(",", ":"))


def event_from_json(text: str) -> AuditEvent:
    """Return the event that `event_to_json` has written as `text`."""
    told: Mapping[str, Any] = json.loads(text)
    actor = told["actor"]
    return AuditEvent(
        told["id"],
        told["at_ms"],
        told["kind"],
        Actor(ActorKind(actor["kind"]), actor.get("user", ""), actor.get("device", ""), actor.get("name", "")),
        tuple(Subject(SubjectKind(one["kind"]), one["id"]) for one in told["subjects"]),
        told["network"],
        told["request_id"],
        AuditResult(told["result"]),
        told["count"],
        told["details"],
    )
