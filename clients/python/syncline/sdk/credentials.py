"""Temporary S3 credentials of a space, renewed while a transfer lasts."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import Access
from syncline.model.identifiers import SpaceId
from syncline.sdk.errors import understood
from syncline.sdk.session import Session, by_our_clock

RENEW_MS = 5 * 60_000
"""Credentials that expire within this time, in milliseconds, are renewed."""
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,8192}")


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Temporary S3 credentials that open the objects of one space: those whose keys begin with `key_prefix`, in the
    bucket `bucket`.

    `expires_at_ms` is in milliseconds since 1970 by the clock of the service, `ours_until_ms` by the clock of this
    device, which may be wrong.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at_ms: int
    bucket: str
    key_prefix: str
    ours_until_ms: int = 0


class SpaceCredentials:
    """Caches the S3 credentials of one space, and renews them before they expire. Usable from any thread."""

    def __init__(self, session: Session, space: SpaceId, access: Access) -> None:
        self._session = session
        self._space = space
        self._access = access
        self._lock = threading.Lock()
        self._held: S3Credentials | None = None

    def get(self) -> S3Credentials:
        """Return credentials that are valid for at least RENEW_MS.

        - Raise NoSuchSpace if the user has no grant.
        - Raise PermissionDenied if the role does not allow the access.
        - Raise Unavailable if the service does not answer.
        """
        with self._lock:
            held = self._held
            if held is None or held.ours_until_ms - time.time() * 1000 < RENEW_MS:
                held = self._held = issue(self._session, self._space, self._access)
            return held

    def forget(self, refused: S3Credentials) -> bool:
        """Drop `refused`, credentials that storage refused, so that the next call of `get` requests new ones, and
        return True. Return False if these credentials are not cached any more, because another thread has dropped or
        renewed them.
        """
        with self._lock:
            if self._held is not refused:
                return False
            self._held = None
            return True


def issue(session: Session, space: SpaceId, access: Access) -> S3Credentials:
    """Request credentials from auth that allow `access` to the objects of `space`, and return them. Raise
    UnexpectedAnswer for credentials that cannot sign a request, and the errors of `SpaceCredentials.get`.
    """
    request = auth_pb2.IssueCredentialsRequest(space_id=space, access=auth_pb2.Access.ValueType(access.value))
    issued = session.call(lambda stubs: stubs.auth.IssueCredentials, request)
    ours_until_ms = by_our_clock(issued.expires_at_ms, issued.expires_in_ms)
    with understood():
        for part in (issued.access_key_id, issued.secret_access_key, issued.session_token, issued.key_prefix):
            if _HEADER_VALUE.fullmatch(part) is None:
                raise ValueError("credentials that no header can hold")
        for moment_ms in (issued.expires_at_ms, ours_until_ms):
            datetime.fromtimestamp(moment_ms / 1000, UTC)
    return S3Credentials(
        issued.access_key_id,
        issued.secret_access_key,
        issued.session_token,
        issued.expires_at_ms,
        issued.bucket,
        issued.key_prefix,
        ours_until_ms,
    )
