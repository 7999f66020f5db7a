"""Uploads: the spaces for which credentials to write were recently issued, and the spaces that get no more of these
credentials.

The metadata service measures the objects in S3. It reads here which spaces to measure, and reports the results.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from cachetools import LRUCache

from runtime.logs import structlog
from services.auth import metrics
from services.auth.ports import UploadStore
from services.auth.quotas import Quotas
from services.auth.records import HOUR_MS, SECOND_MS, Clock, SpaceUploads
from syncline.model.errors import InvalidPageToken, QuotaExceeded
from syncline.model.identifiers import SpaceId
from syncline.model.limits import MAX_STORED_QUOTAS, MIN_UNSEALED_BYTES

WRITTEN_HOURS: Final = 3
"""Hours, including the present one, for which a space counts as recently written to after credentials were issued.
Credentials last one hour at most, so all uploads with them are complete by then.
"""
REFUSAL_SECONDS: Final = 86_400
"""Seconds after which a space that is closed to uploads is open again, unless another measurement closes it. A closed
space is measured continually, so that after this time the metadata service has lost track of it; a space that is
written to again is measured within a minute.
"""
_MAX_REMEMBERED_SPACES: Final = 10_000
_HOUR: Final = re.compile("[0-9]{1,9}")

log = structlog.get_logger()


class Uploads:
    """Records the spaces for which credentials to write are issued, and refuses such credentials for spaces that are
    closed to uploads. One instance serves all spaces of a process.
    """

    def __init__(self, store: UploadStore, *, quotas: Quotas, clock: Clock) -> None:
        self._store = store
        self._quotas = quotas
        self._clock = clock
        self._noted: LRUCache[SpaceId, int] = LRUCache(_MAX_REMEMBERED_SPACES)

    async def begin(self, space: SpaceId) -> None:
        """Record that credentials to write to the space are about to be issued. Raise QuotaExceeded if the space is
        closed to uploads.
        """
        measured = await self._store.uploads(space)
        if (
            measured is not None
            and measured.refused
            and self._clock() < measured.measured_at_ms + REFUSAL_SECONDS * SECOND_MS
            # A larger quota helps at once, and not only from the next measurement on.
            and (await self._quotas.of_space(space)).quota_bytes <= measured.quota_bytes
        ):
            metrics.UPLOADS_REFUSED.inc()
            raise _refused(measured)
        hour = self._hour()
        if self._noted.get(space) != hour:
            await self._store.note_writing(space, hour=hour)
            self._noted[space] = hour

    async def written(self, *, after: str, limit: int) -> tuple[list[SpaceId], str]:
        """Return up to `limit` spaces for which credentials to write were issued within WRITTEN_HOURS, and the token
        with which to continue; the token is empty at the end.

        `after` is empty, or the token that an earlier call returned. A space can occur more than once. Raise
        InvalidPageToken if `after` is no such token.
        """
        now = self._hour()
        begin, _, last = (after or f"{now - WRITTEN_HOURS + 1} ").partition(" ")
        if not _HOUR.fullmatch(begin):
            raise InvalidPageToken
        hour = max(int(begin), now - WRITTEN_HOURS)  # the hour may have changed since the first page
        if hour != int(begin):
            last = ""  # The name is a position within the older hour.
        found: list[SpaceId] = []
        while hour <= now:
            found += await self._store.written(hour=hour, after=last, limit=limit - len(found))
            if len(found) == limit:
                return found, f"{hour} {found[-1]}"
            hour, last = hour + 1, ""
        return found, ""

    async def set(self, space: SpaceId, uploads: SpaceUploads) -> None:
        """Store a measurement of the uploads of a space, by which `begin` decides from now on. Do nothing if the stored
        measurement was taken later.
        """
        if not uploads.measured_at_ms:
            uploads = replace(uploads, measured_at_ms=self._clock())
        if await self._store.set_uploads(space, uploads) and uploads.refused:
            log.info("uploads refused", space=space, unsealed_bytes=uploads.unsealed_bytes)

    def _hour(self) -> int:
        return self._clock() // HOUR_MS


def _refused(measured: SpaceUploads) -> QuotaExceeded:
    sealed_bytes = measured.stored_bytes - measured.unsealed_bytes
    if sealed_bytes > MAX_STORED_QUOTAS * measured.quota_bytes:
        text = (
            f"this space holds sealed objects of {sealed_bytes:,} bytes, many of them in no version; that is more than "
            f"{MAX_STORED_QUOTAS} times its quota of {measured.quota_bytes:,} bytes, and waiting does not change it. "
            "Ask whoever runs the system for a larger quota"
        )
    else:
        text = (
            f"this space holds {measured.unsealed_objects:,} objects of {measured.unsealed_bytes:,} bytes that were "
            f"uploaded and never sealed, each of which counts for {MIN_UNSEALED_BYTES // 1024} KiB at least, and "
            f"{measured.stored_bytes:,} bytes in all; its quota of {measured.quota_bytes:,} bytes leaves no room for "
            "more. Finish what you began to upload, wait until what is left of them is removed, or ask for a larger "
            "quota"
        )
    return QuotaExceeded(
        text,
        unsealed_bytes=str(measured.unsealed_bytes),
        unsealed_objects=str(measured.unsealed_objects),
        stored_bytes=str(measured.stored_bytes),
        quota_bytes=str(measured.quota_bytes),
    )
