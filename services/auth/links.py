"""Public links: whoever knows a link's token may read one node of a space and what is below it.

A token has 128 random bits; only its digest is stored. A link is valid until it expires, is revoked, or its maker may
no longer write in the space. The maker's right is checked at each use, so a link never grants more than its maker has.
If the maker loses the right to write and is granted it again later, the link stays invalid.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from runtime.identity import LinkScope
from runtime.logs import structlog
from runtime.pool import Share
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.audit.counts import RefusalCounts
from services.auth.audit.events import AuditKind, audit_event
from services.auth.derived import DerivedSecrets, derived_id
from services.auth.grants import require
from services.auth.holdings import HoldingLimits, decided_anew, is_full, limit_reached
from services.auth.opaque_tokens import token_digest
from services.auth.passwords import PasswordCheck, Passwords
from services.auth.ports import AccessStore, GateStore, LinkStore, MakerEnded, SpaceStore
from services.auth.records import DAY_MS, Clock, GrantRecord, Link, SpaceDeletion
from services.auth.tokens import AccessToken, AccessTokens
from syncline.model.accounts import Access, Role
from syncline.model.errors import (
    DeviceRevoked,
    InvalidArgument,
    LimitReached,
    LinkExhausted,
    LinkPasswordNeeded,
    NoSuchLink,
    RequestIdReused,
    TooManyAttempts,
    WrongPassword,
)
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId
from syncline.model.limits import MAX_PASSWORD_CHARACTERS

log = structlog.get_logger()

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
_TOKEN_BYTES = 16

Makers: TypeAlias = Mapping[tuple[SpaceId, UserId], GrantRecord]
"""The present grant of each person in a space, by space and user. A person without a grant is missing."""
_ENDED_KEPT_MS: Final = DAY_MS
"""Milliseconds for which a revoked link is kept. A repetition of the request that made it then finds it, and does not
make it again.
"""
_DROPPED_AT_ONCE: Final = 50


def check_link_password(text: str) -> str | None:
    """Return `text` as the password of a new link; None for an empty text, which means no password. Raise
    InvalidArgument if the text is too long.
    """
    if len(text) > MAX_PASSWORD_CHARACTERS:
        raise InvalidArgument(f"the password of a link has at most {MAX_PASSWORD_CHARACTERS} characters")
    return text or None


def is_link_token(text: str) -> bool:
    """Return True if the text has the form of a link's token."""
    return _TOKEN.fullmatch(text) is not None


def attempts_at(link: Link) -> str:
    """Return the name under which attempts with a link's password are counted (the `subject` of AttemptStore). No
    e-mail address equals it, because it has no @.
    """
    return f"link/{link.link}"


def _asked_for(link: Link) -> tuple[object, ...]:
    """Return the values of a link that a repetition of the request that made it must ask for as well. The digest of the
    link's token is among them, because the answer to the repetition must be the same token.
    """
    return link.user, link.node, link.expires_at_ms, link.max_downloads, link.token


def opens_after_undeletion(link: Link, deletions: Mapping[SpaceId, SpaceDeletion], *, now_ms: int) -> bool:
    """Return True if a link does not open because its space is deleted, and may open again when the space is undeleted.
    `deletions` are the deletions of the spaces in which the maker of the link has a grant, and `now_ms` is the present
    time in milliseconds since 1970.
    """
    deletion = deletions.get(link.space)
    expired = link.expires_at_ms is not None and link.expires_at_ms <= now_ms
    return deletion is not None and deletion.is_reversible(now_ms) and not expired and link.revoked_at_ms is None


def is_open(link: Link, maker: GrantRecord | None, *, now_ms: int) -> bool:
    """Return True if a link is valid at `now_ms`, in milliseconds since 1970. `maker` is the present grant of its maker
    in the space, None without one.
    """
    expired = link.expires_at_ms is not None and link.expires_at_ms <= now_ms
    may_write = (
        maker is not None and maker.role.allows(Access.WRITE) and link.writes_since_ms in {None, maker.writes_since_ms}
    )
    return may_write and not expired and link.revoked_at_ms is None


class Links:
    """Makes, lists, revokes and opens the public links of spaces, and counts their downloads."""

    def __init__(
        self,
        links: LinkStore,
        access: AccessStore,
        spaces: SpaceStore,
        gates: GateStore,
        *,
        holdings: HoldingLimits,
        passwords: Passwords,
        attempts: Attempts,
        access_tokens: AccessTokens,
        derived: DerivedSecrets,
        clock: Clock,
        refusals: RefusalCounts,
    ) -> None:
        self._links = links
        self._access = access
        self._spaces = spaces
        self._gates = gates
        self._holdings = holdings
        self._passwords = passwords
        self._attempts = attempts
        self._access_tokens = access_tokens
        self._secrets = derived
        self._clock = clock
        self._refusals = refusals

    # ---- for those who may write in the space; all raise the errors of `require` (grants.py)

    async def create(
        self,
        space: SpaceId,
        node: NodeId,
        *,
        request: RequestId,
        user: UserId,
        device: DeviceId,
        peer: str,
        password: str | None,
        expires_at_ms: int | None,
        max_downloads: int,
    ) -> tuple[Link, str]:
        """Make a link, and return it with its token. A repeated request gets the link and token that it made before.

        - `user`, `device` and the network `peer` are the caller.
        - `password` is None for a link without a password.
        - `expires_at_ms`, in milliseconds since 1970, is None for a link that does not expire.
        - `max_downloads` is 0 for any number.

        Errors, after which no link was made:

        - InvalidArgument if the link would have expired already;
        - the errors of `grants.require` if the caller may not write in the space;
        - RequestIdReused if the user has used the request id for a different link, or if the secret of the services has
          changed since;
        - LimitReached if the space has too many links, or the user has made too many, in this space or in all;
        - TooMuchAtOnce if too many passwords are being hashed, and Contended if concurrent additions come first too
          often.
        """
        now = self._clock()
        if expires_at_ms is not None and expires_at_ms <= now:
            raise InvalidArgument("expires_at_ms must be later than now")
        grant, _ = await require(self._access, space, Access.WRITE, user=user, device=device, now_ms=self._clock())
        share = Share(user, peer)
        token = self._secrets.secret("link", user, request, size=_TOKEN_BYTES)
        link = Link(
            LinkId(derived_id("link", user, request)),
            space,
            node,
            user,
            now,
            token_digest(token),
            expires_at_ms,
            await self._passwords.hash(password, share) if password is not None else None,
            max_downloads,
            made_by=device,
            writes_since_ms=grant.writes_since_ms,
        )
        if await decided_anew(
            lambda: self._try_to_add(link), busy="other links are being made in this space; try again"
        ):
            log.info("link created", space=space, link=link.link)
            return link, token
        made = await self._links.link(space, link.link)
        if made is None or not await self._is_same(made, link, password, share):
            raise RequestIdReused
        return made, token

    async def _try_to_add(self, link: Link) -> bool:
        """Add the link and return True; return False if it exists already. Raise LimitReached if the space or the maker
        has too many links even after invalid ones were dropped, DeviceRevoked if the device from which the link is made
        was revoked, and GateMoved if a concurrent addition came first.
        """
        gates = await self._gates.gates(f"links {link.space}", f"links of {link.user}")
        here, made = await asyncio.gather(self._links.links(link.space), self._links.links_of(link.user))
        full = self._full(link, here, made)
        if full is not None:
            if any(one.link == link.link for one in here):
                return False
            grants, _ = await self._access.accesses({(one.space, one.user) for one in made}, [])
            deletions = await self._access.deletions({one.space for one in made}, user=link.user)
            here = await self._without_ended(here, await self._makers(here))
            kept = [one for one in made if opens_after_undeletion(one, deletions, now_ms=self._clock())]
            kept_ids = {one.link for one in kept}
            others = [one for one in made if one.link not in kept_ids]
            made = kept + await self._links.without_ended(await self._without_ended(others, grants))
            full = self._full(link, here, made)
        if full is not None:
            raise full()
        event = audit_event(
            AuditKind.LINK_CREATED,
            at_ms=link.created_at_ms,
            space=link.space,
            link=link.link,
            node=link.node.hex(),
            expires_at_ms=str(link.expires_at_ms or ""),
            password="yes" if link.password_hash is not None else "no",
            max_downloads=str(link.max_downloads or ""),
        )
        try:
            return await self._links.add_link(link, gates=gates, events=[event])
        except MakerEnded:
            raise DeviceRevoked from None

    def _full(self, link: Link, here: Sequence[Link], made: Sequence[Link]) -> Callable[[], LimitReached] | None:
        """Return None if `link` may be added. `here` are the present links of its space, and `made` those of its maker
        in all spaces. If a limit is reached, return a function that makes the LimitReached to raise, and counts it in
        the metric.
        """
        most, held = self._holdings.links, sum(one.user == link.user for one in here)
        hint = "End some first; a link counts for a day after its end"
        if len(here) >= most:
            text = f"this space has {most} public links, as many as one may have. {hint}"
        elif is_full(most, total=len(here), held=held):
            rest = most - len(here)
            text = f"you have made {held} public links in this space; {rest} more are kept for others. {hint}"
        elif len(made) >= (most := self._holdings.links_made):
            text = f"you have made {most} public links, as many as one person may have. End some first"
            return partial(limit_reached, "links_made", text)
        else:
            return None
        return partial(limit_reached, "links", text)

    async def _without_ended(self, found: Sequence[Link], makers: Makers) -> list[Link]:
        """Remove links of `found` that are no longer valid from the store, at most _DROPPED_AT_ONCE, and return the
        others. `makers` has the present grants of the people who made the links. A link that was revoked less than
        _ENDED_KEPT_MS ago is not removed: a repetition of the request that made the link then does not make it again.
        """
        now = self._clock()
        ended = [
            link
            for link in found
            if not is_open(link, makers.get((link.space, link.user)), now_ms=now)
            and (link.revoked_at_ms is None or link.revoked_at_ms <= now - _ENDED_KEPT_MS)
        ][:_DROPPED_AT_ONCE]
        await asyncio.gather(*(self._links.drop_link(link) for link in ended))
        dropped = {link.link for link in ended}
        return [link for link in found if link.link not in dropped]

    async def _makers(self, found: Sequence[Link]) -> Makers:
        """Return the present grants of the people who made these links, each in the space of the link."""
        found_space = (
            await self._spaces.space_with_grants(found[0].space, *(link.user for link in found)) if found else None
        )
        return {(grant.space, user): grant for user, grant in found_space[1].items()} if found_space else {}

    async def _is_same(self, made: Link, wanted: Link, password: str | None, share: Share) -> bool:
        if _asked_for(made) != _asked_for(wanted) or (made.password_hash is None) != (password is None):
            return False
        if made.password_hash is None or password is None:
            return True
        return await self._passwords.verify(password, made.password_hash, share) is not PasswordCheck.WRONG

    async def of_space(self, space: SpaceId, *, user: UserId, device: DeviceId) -> list[Link]:
        """Return the valid links of a space, newest first.

        `user` and `device` are the caller, who must be allowed to write in the space; otherwise raise the errors of
        `grants.require`.
        """
        await require(self._access, space, Access.WRITE, user=user, device=device, now_ms=self._clock())
        found = await self._links.links(space)
        makers, now = await self._makers(found), self._clock()
        kept = [link for link in found if is_open(link, makers.get((link.space, link.user)), now_ms=now)]
        return sorted(kept, key=lambda link: link.place)

    async def revoke(self, space: SpaceId, link: LinkId, *, user: UserId, device: DeviceId) -> None:
        """Revoke a link of a space permanently; do nothing if it is revoked already.

        `user` and `device` are the caller, who must be allowed to write in the space; otherwise raise the errors of
        `grants.require`. Raise NoSuchLink if the space has no such link.
        """
        await require(self._access, space, Access.WRITE, user=user, device=device, now_ms=self._clock())
        found = await self._links.link(space, link)
        if found is None:
            raise NoSuchLink
        now = self._clock()
        event = audit_event(AuditKind.LINK_ENDED, at_ms=now, space=space, link=link)
        await self._links.revoke_link(found, at_ms=now, events=[event])
        log.info("link revoked", space=space, link=link)

    # ---- for anybody who has the token

    async def open(self, token: str, *, password: str, peer: str) -> tuple[Link, AccessToken]:
        """Open a link for a visitor: return the link with the link token `token`, and an access token for its node. The
        access token does not outlive the link. `password` is empty if the visitor gives none, and `peer` is the network
        of the visitor.

        Raise NoSuchLink if no valid link has this link token. For a link with a password, also raise:

        - LinkPasswordNeeded if `password` is empty, and WrongPassword if it is wrong;
        - TooManyAttempts above a limit of `AttemptLimits`;
        - TooMuchAtOnce if too many passwords are being hashed.
        """
        link = await self._links.link_with_token(token_digest(token)) if is_link_token(token) else None
        if link is None or not await self._opens(link):
            raise NoSuchLink
        if link.password_hash is not None:
            if not password:
                raise LinkPasswordNeeded
            with self._refusals.counting(
                AuditKind.LINK_PASSWORD_FAILED, WrongPassword, TooManyAttempts, link=link.link
            ):
                await self._prove(link, link.password_hash, password, peer=peer)
        metrics.LINK_OPENINGS.labels("ok").inc()
        scope = LinkScope(link.link, link.space, link.node)
        return link, self._access_tokens.issue_for_link(scope, peer=peer, until_ms=link.expires_at_ms)

    async def _prove(self, link: Link, password_hash: str, password: str, *, peer: str) -> None:
        subject = attempts_at(link)
        try:
            await self._attempts.admit(subject=subject, peer=peer)
        except TooManyAttempts:
            metrics.LINK_OPENINGS.labels("limited").inc()
            raise
        if await self._passwords.verify(password, password_hash, Share(subject, peer)) is PasswordCheck.WRONG:
            metrics.LINK_OPENINGS.labels("failed").inc()
            raise WrongPassword("the password of this link is wrong")
        await self._attempts.succeeded(subject=subject, peer=peer)

    # ---- for visitors who have opened the link

    async def role(self, opened: LinkScope, space: SpaceId) -> Role | None:
        """Return the role in `space` that an opened link gives: Role.VIEWER if the link is valid and belongs to that
        space, otherwise None.
        """
        if opened.space != space:
            return None
        link = await self._links.link(opened.space, opened.link)
        return Role.VIEWER if link is not None and await self._opens(link) else None

    async def count_download(self, opened: LinkScope, request: RequestId) -> bool:
        """Count one download of an opened link, once for each request id, and return True. Count nothing and return
        False if the link does not limit its downloads.

        - Raise NoSuchLink if the link is no longer valid.
        - Raise LinkExhausted if it allows no further download.
        - Raise Unavailable if too many downloads of the link begin at the same time.
        """
        link = await self._links.link(opened.space, opened.link)
        if link is None or not await self._opens(link):
            raise NoSuchLink
        if link.max_downloads and not await self._links.count_download(
            link.space, link.link, request, now_ms=self._clock()
        ):
            raise LinkExhausted
        return bool(link.max_downloads)

    async def _opens(self, link: Link) -> bool:
        maker, _ = await self._access.access(link.space, user=link.user, device=None)
        return is_open(link, maker, now_ms=self._clock())
