"""Public links: whoever has a link's token may read one node of a space and what is below it.

A token is 128 bits that nobody can guess, of which the digest alone is stored. A link opens until it expires, is
revoked, or its maker may no longer write in the space, which is looked at each time: it gives away nothing that its
maker could not.
"""

from __future__ import annotations

import hashlib
import re

from core.errors import (
    InvalidArgument,
    LinkExhausted,
    LinkPasswordNeeded,
    NoSuchLink,
    RequestIdReused,
    TooManyAttempts,
    WrongPassword,
)
from core.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId
from core.limits import MAX_PASSWORD_CHARACTERS
from runtime.context import LinkScope
from runtime.logs import structlog
from runtime.pool import Share
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.derived import DerivedSecrets, derived_id
from services.auth.grants import require
from services.auth.passwords import Passwords, Verdict
from services.auth.ports import AccessStore, LinkStore, SpaceStore
from services.auth.records import Access, Clock, Grant, Link, Role
from services.auth.tokens import AccessToken, AccessTokens

log = structlog.get_logger()

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
_TOKEN_BYTES = 16


def check_link_password(text: str) -> str | None:
    """A new link's password, None for an empty one; InvalidArgument if it is too long."""
    if len(text) > MAX_PASSWORD_CHARACTERS:
        raise InvalidArgument(f"the password of a link has at most {MAX_PASSWORD_CHARACTERS} characters")
    return text or None


def token_digest(text: str) -> bytes:
    """What is stored of a link's token."""
    return hashlib.sha256(text.encode()).digest()


def attempts_at(link: Link) -> str:
    """The subject of attempts with a link's password; an e-mail address has an @, so it is nobody's."""
    return f"link/{link.link}"


def _asked_for(link: Link) -> tuple[object, ...]:
    """What the request that made a link has decided of it, and what was told of it once: its token."""
    return link.user, link.node, link.expires_at_ms, link.max_downloads, link.token


def is_open(link: Link, maker: Grant | None, *, now_ms: int) -> bool:
    """Whether a link opens, by the grant that its maker has now."""
    expired = link.expires_at_ms is not None and link.expires_at_ms <= now_ms
    may_write = maker is not None and maker.role.allows(Access.WRITE)
    return may_write and not expired and link.revoked_at_ms is None


class Links:
    """The public links of spaces."""

    def __init__(
        self,
        links: LinkStore,
        access: AccessStore,
        spaces: SpaceStore,
        *,
        passwords: Passwords,
        attempts: Attempts,
        access_tokens: AccessTokens,
        derived: DerivedSecrets,
        clock: Clock,
    ) -> None:
        self._links = links
        self._access = access
        self._spaces = spaces
        self._passwords = passwords
        self._attempts = attempts
        self._access_tokens = access_tokens
        self._secrets = derived
        self._clock = clock

    # ---- for those who may write in the space; all raise DeviceRevoked, NoSuchSpace and PermissionDenied

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
        """Make a link and its token, or return those that this request made before.

        InvalidArgument if it would have expired already; RequestIdReused if the request made another one, or so long
        ago that the secret of the services was another one.
        """
        now = self._clock()
        if expires_at_ms is not None and expires_at_ms <= now:
            raise InvalidArgument("expires_at_ms must be later than now")
        await require(self._access, space, Access.WRITE, user=user, device=device)
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
        )
        if await self._links.add_link(link):
            log.info("link created", space=space, link=link.link)
            return link, token
        made = await self._links.link(space, link.link)
        if made is None or not await self._is_same(made, link, password, share):
            raise RequestIdReused
        return made, token

    async def _is_same(self, made: Link, wanted: Link, password: str | None, share: Share) -> bool:
        if _asked_for(made) != _asked_for(wanted) or (made.password_hash is None) != (password is None):
            return False
        if made.password_hash is None or password is None:
            return True
        return await self._passwords.verify(password, made.password_hash, share) is not Verdict.WRONG

    async def of_space(self, space: SpaceId, *, user: UserId, device: DeviceId) -> list[Link]:
        """The links that open now, newest first."""
        await require(self._access, space, Access.WRITE, user=user, device=device)
        found = await self._links.links(space)
        standing = await self._spaces.standing(space, *(link.user for link in found)) if found else None
        makers = standing[1] if standing else {}
        now = self._clock()
        kept = [link for link in found if is_open(link, makers.get(link.user), now_ms=now)]
        return sorted(kept, key=lambda link: link.place)

    async def revoke(self, space: SpaceId, link: LinkId, *, user: UserId, device: DeviceId) -> None:
        """End a link; revoked already, it stays so. NoSuchLink."""
        await require(self._access, space, Access.WRITE, user=user, device=device)
        found = await self._links.link(space, link)
        if found is None:
            raise NoSuchLink
        await self._links.revoke_link(space, link, at_ms=self._clock())
        log.info("link revoked", space=space, link=link)

    # ---- for anybody who has the token

    async def open(self, token: str, *, password: str, peer: str) -> tuple[Link, AccessToken]:
        """The link of a token, and an access token for what it opens, which does not outlive it.

        Raises NoSuchLink, and where there is a password LinkPasswordNeeded, WrongPassword, TooManyAttempts and
        TooMuchAtOnce.
        """
        link = await self._links.link_with_token(token_digest(token)) if _TOKEN.fullmatch(token) else None
        if link is None or not await self._opens(link):
            raise NoSuchLink
        if link.password_hash is not None:
            if not password:
                raise LinkPasswordNeeded
            await self._prove(link, link.password_hash, password, peer=peer)
        metrics.LINK_OPENINGS.labels("ok").inc()
        scope = LinkScope(link.link, link.space, link.node)
        return link, self._access_tokens.issue_for_link(scope, until_ms=link.expires_at_ms)

    async def _prove(self, link: Link, password_hash: str, password: str, *, peer: str) -> None:
        subject = attempts_at(link)
        try:
            await self._attempts.admit(subject=subject, peer=peer)
        except TooManyAttempts:
            metrics.LINK_OPENINGS.labels("limited").inc()
            raise
        if await self._passwords.verify(password, password_hash, Share(subject, peer)) is Verdict.WRONG:
            metrics.LINK_OPENINGS.labels("failed").inc()
            raise WrongPassword("the password of this link is wrong")
        await self._attempts.succeeded(subject=subject, peer=peer)

    # ---- for who has opened it

    async def role(self, opened: LinkScope, space: SpaceId) -> Role | None:
        """What an opened link may do in a space: read its own as long as it opens, else nothing."""
        if opened.space != space:
            return None
        link = await self._links.link(opened.space, opened.link)
        return Role.VIEWER if link is not None and await self._opens(link) else None

    async def count_download(self, opened: LinkScope) -> bool:
        """Count one download where the link limits them; whether it does.

        NoSuchLink if it does not open any more; LinkExhausted.
        """
        link = await self._links.link(opened.space, opened.link)
        if link is None or not await self._opens(link):
            raise NoSuchLink
        if link.max_downloads and not await self._links.count_download(link.space, link.link):
            raise LinkExhausted
        return bool(link.max_downloads)

    async def _opens(self, link: Link) -> bool:
        maker, _ = await self._access.access(link.space, user=link.user, device=None)
        return is_open(link, maker, now_ms=self._clock())
