"""Changes of a space as a whole, by its owners: another name, deletion, and the end of a deletion.

A deletion is one write of the space, whatever the number of its members. Grants, public links and aliases stay as they
are, so that the space is as before when an owner undeletes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from runtime.logs import structlog
from services.auth.audit.events import AuditKind, audit_event
from services.auth.deletions import error_without_grant
from services.auth.holdings import decided_anew
from services.auth.ports import RequestStore, SpaceStore
from services.auth.records import DAY_MS, Clock, GrantRecord, Membership, SpaceDeletion, SpaceRecord
from services.auth.repetitions import done_by, is_repetition
from services.auth.spaces import check_space_name
from syncline.model.accounts import Role
from syncline.model.errors import NoSuchSpace, PermissionDenied
from syncline.model.identifiers import RequestId, SpaceId, UserId

log = structlog.get_logger()

_KINDS: Final = MappingProxyType(
    {
        "renamed": AuditKind.SPACE_RENAMED,
        "deleted": AuditKind.SPACE_DELETED,
        "undeleted": AuditKind.SPACE_UNDELETED,
    }
)
"""The kind of the event of a change, by the verb of the change."""


def decide_space_change(space: SpaceRecord, caller: GrantRecord | None, *, verb: str) -> None:
    """Check that a caller may change a space. `caller` is the caller's grant, None without one, and `verb` names the
    change in the text of an error: "renamed".

    Raise NoSuchSpace if the caller has no grant, and PermissionDenied if the caller is no owner or the space is
    personal.
    """
    if caller is None:
        raise NoSuchSpace(space_id=space.space)
    if space.personal:
        raise PermissionDenied(f"a personal space cannot be {verb}")
    if caller.role is not Role.OWNER:
        raise PermissionDenied(f"a space can only be {verb} by its owners; ask an owner")


class SpaceChanges:
    """Renames, deletes and undeletes spaces."""

    def __init__(self, spaces: SpaceStore, requests: RequestStore, *, reversible_days: int, clock: Clock) -> None:
        """`reversible_days` is the number of days for which a deleted space can be undeleted."""
        self._spaces = spaces
        self._requests = requests
        self._reversible_ms = reversible_days * DAY_MS
        self._clock = clock

    async def rename(self, space: SpaceId, *, request: RequestId, caller: UserId, name: str) -> Membership:
        """Give a space the name `name`, and return the space as the caller sees it. The aliases of all members stay.
        `caller` is the user who asks for the change, and `request` the id of the request: a repetition has no further
        effect.

        - Raise InvalidArgument for the name of personal spaces.
        - Raise NoSuchSpace, SpaceDeleted or PermissionDenied if the caller may not change the space.
        - Raise RequestIdReused if the caller has used the request id for another change.
        - Raise Contended if concurrent changes come first too often.
        """
        check_space_name(name)

        def renamed(found: SpaceRecord) -> SpaceRecord:
            if found.deletion is not None:
                raise error_without_grant(space, found.deletion, now_ms=self._clock())
            return found if found.name == name else replace(found, name=name, made_as=found.made_as or found.name)

        return await self._change(space, renamed, request=request, caller=caller, asked=("renamed", name))

    async def delete(self, space: SpaceId, *, request: RequestId, caller: UserId) -> Membership:
        """Delete a space, and return it as the caller sees it. A space that is deleted already stays as it is.
        Arguments and errors are those of `rename`.
        """

        def deleted(found: SpaceRecord) -> SpaceRecord:
            if found.deletion is not None:
                return found
            now = self._clock()
            return replace(found, deletion=SpaceDeletion(now, now + self._reversible_ms))

        return await self._change(space, deleted, request=request, caller=caller, asked=("deleted",))

    async def undelete(self, space: SpaceId, *, request: RequestId, caller: UserId) -> Membership:
        """End the deletion of a space, and return the space as the caller sees it. A space that is not deleted stays as
        it is. Arguments and errors are those of `rename`; raise NoSuchSpace if it is too late.
        """

        def undeleted(found: SpaceRecord) -> SpaceRecord:
            return replace(found, deletion=None)

        return await self._change(space, undeleted, request=request, caller=caller, asked=("undeleted",))

    async def _change(
        self,
        space: SpaceId,
        decide: Callable[[SpaceRecord], SpaceRecord],
        *,
        request: RequestId,
        caller: UserId,
        asked: tuple[str, ...],
    ) -> Membership:
        """Replace a space by the result of `decide`. `asked` is what the request asks for; its first text is the verb
        of the change.
        """
        done = done_by(caller, request, space, *asked, at_ms=self._clock())
        verb = asked[0]

        async def change() -> Membership:
            is_repeated = await is_repetition(self._requests, done)
            found_space = await self._spaces.space_with_grants(space, caller)
            if found_space is None:
                raise NoSuchSpace(space_id=space)
            found, grants = found_space
            grant = grants.get(caller)
            if found.deletion is not None and not found.deletion.is_reversible(self._clock()):
                raise NoSuchSpace(space_id=space)
            decide_space_change(found, grant, verb=verb)
            assert grant is not None, "decide_space_change refuses a caller without a grant"
            if is_repeated:
                return _seen_by(found, grant)
            to = decide(found)
            if to == found:
                await self._requests.note(done)
            else:
                event = audit_event(_KINDS[verb], at_ms=done.at_ms, space=space, before=found.name, after=to.name)
                await self._spaces.change_space(found, to, by=caller, done=done, events=[event])
                log.info("space changed", space=space, user=caller, change=verb)
            return _seen_by(to, grant)

        return await decided_anew(change, busy="other changes of this space are in progress; try again")


def _seen_by(space: SpaceRecord, grant: GrantRecord) -> Membership:
    return Membership(space.space, space.name, space.personal, grant.role, grant.alias, deletion=space.deletion)
