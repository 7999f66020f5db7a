"""The numbers of docs/clients.md are those of the code."""

from __future__ import annotations

from pathlib import Path

from runtime.permissions import MAX_SMALL_REQUEST_BYTES
from services.auth.attempts import AttemptLimits
from services.notify.settings import NotifySettings
from syncline.model import limits
from syncline.model.blocks import (
    AVG_BLOCK_BYTES,
    KIB,
    MAX_BLOCK_BYTES,
    MAX_INLINE_BLOCKS,
    MAX_OBJECT_BYTES,
    MAX_PACK_ENTRIES,
    MIB,
    MIN_BLOCK_BYTES,
    PACK_BYTES,
)
from syncline.model.names import MAX_NAME_BYTES, MAX_PATH_BYTES
from syncline.model.tree import MAX_CHECK_FILES, MAX_MUTATIONS, MAX_REQUEST_BYTES
from syncline.rpc.channel import MAX_ANSWER_BYTES, MAX_RECEIVE_BYTES
from tests import vectors

TEXT = " ".join((Path(__file__).parents[1] / "docs" / "clients.md").read_text().split())


def test_the_numbers_are_those_of_the_code() -> None:
    fastcdc = vectors.load("fastcdc")
    attempts = AttemptLimits()
    assert MAX_CHECK_FILES == 1000  # "a thousand files a message"
    for told in (
        f"at least 512 KiB ({MIN_BLOCK_BYTES:,})",
        f"on average 2 MiB ({AVG_BLOCK_BYTES:,})",
        f"at most 8 MiB ({MAX_BLOCK_BYTES:,}) bytes",
        f"STRICT = 0x{fastcdc['mask_strict']}",
        f"LOOSE = 0x{fastcdc['mask_loose']}",
        f"n = min(len(data), {MAX_BLOCK_BYTES})",
        f"if n <= {MIN_BLOCK_BYTES}: return n",
        f"middle = min({AVG_BLOCK_BYTES}, end)",
        f"({PACK_BYTES:,} bytes) or {MAX_PACK_ENTRIES:,} blocks",
        f"An object has at most {MAX_OBJECT_BYTES // MIB} MiB",
        f"above {MAX_INLINE_BLOCKS:,} blocks",
        f"at most {limits.MAX_FIND_DIGESTS:,} digests",
        f"`SealObjects`, at most {limits.MAX_SEAL_DECLARATIONS:,} ",
        f"takes {MAX_MUTATIONS:,} mutations and {MAX_REQUEST_BYTES:,} bytes",
        f"1 to {MAX_NAME_BYTES} bytes of UTF-8",
        f"paths have at most {MAX_PATH_BYTES:,} bytes",
        f"({limits.MAX_WATCHED_SPACES} spaces at most)",
        f"a service takes {MAX_SMALL_REQUEST_BYTES // KIB} KiB of most requests",
        f"{limits.MAX_SEAL_REQUEST_BYTES // MIB} MiB of `SealObjects`",
        f"more than {limits.MAX_MESSAGE_BYTES // MIB} MiB",
        f"set your own limit to {MAX_ANSWER_BYTES // MIB} MiB",
        f"set your limit to {MAX_RECEIVE_BYTES // MIB} MiB",
        f"| {limits.DEFAULT_DEADLINE_SECONDS} s for unary calls",
        f"| access token | {limits.ACCESS_TOKEN_SECONDS // 60} minutes",
        f"| refresh token | until it is spent; {limits.REFRESH_TOKEN_IDLE_DAYS} days",
        f"| key of a browser | {limits.BROWSER_KEY_IDLE_DAYS} days",
        f"| token of a public link | {limits.LINK_TOKEN_SECONDS // 3600} hours",
        f"at least {limits.MIN_CREDENTIALS_SECONDS // 60} minutes, at most an hour",
        f"| answer of a mutation | {limits.ANSWER_DAYS} days",
        f"after {attempts.per_peer} wrong passwords for one address from one place, or {attempts.per_address} from",
        f"every {NotifySettings.model_fields['heartbeat_seconds'].default:g} s",
    ):
        assert told in TEXT, told
