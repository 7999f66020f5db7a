"""The limits of the services that both ends must know: the largest sizes and counts, and how long things last.

`/.well-known/syncline` tells them to clients of others. Those of blocks, packs and names are in `blocks.py` and
`names.py`, those of a request of mutations and of a version check in `tree.py`.
"""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""The largest message that every service accepts."""
REQUEST_BYTES: Final = 128 * 1024 * 1024
"""Bytes of requests that a service takes in at once; the default of its setting."""
UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of answers that a service keeps for readers that are slow; the default of its setting."""
MAX_FIND: Final = 10_000
"""Digests in one FindMissingObjects call."""
MAX_SEAL: Final = 1_000
"""Declarations in one SealObjects call."""
SEAL_READ_BYTES: Final = 512 * 1024 * 1024
"""Bytes that the service reads for one SealObjects call at most: packs, manifests, and objects without S3's SHA-256."""
SEAL_FORMS: Final = 16
"""Forms (block, manifest, packs) in which one object is declared in one SealObjects call."""
LEAST_UNSEALED_BYTES: Final = 64 * 1024
"""Bytes that an object that is uploaded and not sealed counts for at least, since many small ones cost as much as few
large ones."""
STORED_QUOTAS: Final = 2
"""The number of quotas that all objects of a space, sealed or not, may have together. Sealed objects that no version
names come from changes that were not made; so they leave room for a space that is nearly full.
"""
MAX_PAGE: Final = 1_000
"""Items of one page of any listing."""
MAX_WATCHED: Final = 100
"""Spaces of one Watch call."""
MAX_CHECKED: Final = 100
"""Spaces, and devices, of one question about rights."""
MAX_QUERY_CHARACTERS: Final = 255
"""Characters of a search query."""
MAX_LABEL_CHARACTERS: Final = 100
"""Characters of the name of a space, device or key."""
MIN_PASSWORD_CHARACTERS: Final = 8
MAX_PASSWORD_CHARACTERS: Final = 1024

DEADLINE_SECONDS: Final = 30
"""The seconds after which a service ends a unary call that came without a deadline."""
ACCESS_TOKEN_SECONDS: Final = 15 * 60
LINK_TOKEN_SECONDS: Final = 12 * 3600
REFRESH_TOKEN_IDLE_DAYS: Final = 60
"""A device that has not refreshed its tokens for so long is signed out."""
BROWSER_KEY_IDLE_DAYS: Final = 30
"""A browser's key that was not traded for so long has expired."""
PROGRAM_KEY_DAYS: Final = 366
"""The longest that the key of a program lasts."""
ANSWER_DAYS: Final = 30
"""The days for which the answer of a mutation request is kept. A repeated request gets that answer again."""
CREDENTIALS_LEAST_SECONDS: Final = 5 * 60
"""S3 credentials are handed out only while they last so much longer."""
CREDENTIALS_SECONDS: Final = 15 * 60
"""The seconds for which S3 credentials last unless an operator sets another time. Credentials outlive the right that
they were given for by at most this long: STS gives none for less time, and takes none back.
"""
CREDENTIALS_MOST_SECONDS: Final = 3600
"""The longest that S3 credentials last."""
REVOCATION_SECONDS: Final = 10
"""The seconds after which a removed member or a revoked device reads nothing more from the services."""
