"""Temporary S3 credentials: each set is for one space and one access, and is issued only after a check of the grant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cachetools import LRUCache

from runtime.logs import structlog
from services.auth import metrics
from services.auth.grants import require
from services.auth.key_limits import check_scope
from services.auth.ports import AccessStore, CredentialSource
from services.auth.records import SECOND_MS, Clock, DeviceRecord, TemporaryCredentials
from services.auth.uploads import Uploads
from syncline.model.accounts import Access, KeyScope
from syncline.model.blocks import DIGEST_BYTES, key_prefix
from syncline.model.identifiers import DeviceId, SpaceId, UserId
from syncline.model.limits import MIN_CREDENTIALS_SECONDS

log = structlog.get_logger()

MAX_POLICY_CHARACTERS = 2048

_MAX_CACHED_CREDENTIALS = 4096  # about 2 KiB each

_DIGEST = "?" * 2 * DIGEST_BYTES
"""Wildcard pattern for the last part of an object's key: as many characters as a digest has in hex. The bucket's policy
demands that the characters are hexadecimal.
"""

_ACTIONS = {Access.READ: ["s3:GetObject"], Access.WRITE: ["s3:GetObject", "s3:PutObject"]}

Key = tuple[DeviceId, SpaceId, Access]


@dataclass(frozen=True, slots=True)
class TransferTarget:
    """The location of the objects in S3: the bucket, and the partition of AWS (aws, aws-cn, ...) that the
    account is in.
    """

    bucket: str
    partition: str = "aws"


def session_policy(target: TransferTarget, space: SpaceId, access: Access, *, until_ms: int | None = None) -> str:
    """Return the inline policy that restricts the transfer role to one space and one access, in the form of compact
    JSON. `target` is the location of the objects.

    With `until_ms`, in milliseconds since 1970, the policy allows nothing from then on: STS issues no credentials for
    less than a quarter of an hour, and the key of a program may expire before.
    """
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Action": _ACTIONS[access],
        "Resource": f"arn:{target.partition}:s3:::{target.bucket}/{key_prefix(space)}{_DIGEST}",
    }
    if until_ms is not None:
        until = datetime.fromtimestamp(until_ms // SECOND_MS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        statement["Condition"] = {"DateLessThan": {"aws:CurrentTime": until}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))
    assert len(policy) < MAX_POLICY_CHARACTERS, "a bucket's name has at most 63 characters and a space's id 26"
    return policy


def session_name(user: UserId, device: DeviceId) -> str:
    """Return the name of the STS session of this user and device, which the audit log of S3 shows: 53 characters, all
    of which STS allows.
    """
    return f"{user}.{device}"


class CredentialIssuer:
    """Issues S3 credentials. The grant of the caller is checked each time; only answers of STS are cached."""

    def __init__(
        self,
        access: AccessStore,
        source: CredentialSource,
        uploads: Uploads,
        *,
        target: TransferTarget,
        lifetime_seconds: int,
        clock: Clock,
    ) -> None:
        """`target` is the location of the objects, and `lifetime_seconds` the lifetime that is requested from STS."""
        self._access = access
        self._source = source
        self._uploads = uploads
        self._target = target
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        self._issued: LRUCache[Key, TemporaryCredentials] = LRUCache(_MAX_CACHED_CREDENTIALS)
        self._under_way: dict[Key, asyncio.Task[TemporaryCredentials]] = {}

    async def issue(self, space: SpaceId, access: Access, *, user: UserId, device: DeviceId) -> TemporaryCredentials:
        """Return S3 credentials for the objects of a space, for reading or, by `access`, also for writing. `user` and
        `device` are the caller. The credentials are valid for at least five minutes, or until the device expires if
        that is sooner.

        - Raise DeviceRevoked or TokenExpired if the device was revoked or has expired.
        - Raise NoSuchSpace without a grant, and PermissionDenied if the role, or the key of a program, does not allow
          the access.
        - Raise QuotaExceeded if the space is closed to uploads.
        - Raise Unavailable if STS does not answer.
        """
        _, caller = await require(self._access, space, access, user=user, device=device, now_ms=self._clock())
        if access is Access.WRITE:
            check_scope(KeyScope.WRITE, caller)  # a key that shares without this scope has the whole role of its user
            await self._uploads.begin(space)
        key = (device, space, access)
        known = self._issued.get(key)
        least = min(self._clock() + MIN_CREDENTIALS_SECONDS * SECOND_MS, caller.expires_at_ms)
        if known is not None and known.expires_at_ms >= least:
            metrics.CREDENTIALS.labels(access.name.lower(), "memory").inc()
            return known
        issued = await self._once(key, lambda: self._assume(space, access, caller=caller))
        metrics.CREDENTIALS.labels(access.name.lower(), "sts").inc()
        return issued

    def lifetime_ms(self, issued: TemporaryCredentials) -> int:
        """Return the milliseconds for which the credentials `issued` are still valid; 0 if they have expired."""
        return max(0, issued.expires_at_ms - self._clock())

    async def _assume(self, space: SpaceId, access: Access, *, caller: DeviceRecord) -> TemporaryCredentials:
        ends = caller.expires_at_ms < self._clock() + self._lifetime_seconds * SECOND_MS
        issued = await self._source.assume(
            session_name=session_name(caller.user, caller.device),
            policy=session_policy(self._target, space, access, until_ms=caller.expires_at_ms if ends else None),
            seconds=self._lifetime_seconds,
        )
        issued = replace(issued, expires_at_ms=min(issued.expires_at_ms, caller.expires_at_ms))
        self._issued[caller.device, space, access] = issued
        log.info("transfer opened", space=space, access=access.name.lower(), expires_at_ms=issued.expires_at_ms)
        return issued

    async def _once(
        self, key: Key, ask: Callable[[], Coroutine[Any, Any, TemporaryCredentials]]
    ) -> TemporaryCredentials:
        """Return the result of `ask`. If another task has called `ask` with the same key and waits for the result,
        return that result instead of calling it again.
        """
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(ask())

            def ended(task: asyncio.Task[TemporaryCredentials]) -> None:
                del self._under_way[key]
                if not task.cancelled():
                    task.exception()  # retrieved, in case that no caller waits any more

            task.add_done_callback(ended)
        return await asyncio.shield(task)  # If one caller is cancelled, the others still get the answer.
