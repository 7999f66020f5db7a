"""Limits of the services that both ends need: maximum sizes and counts, and lifetimes.

`/.well-known/syncline` publishes them for other clients. `blocks.py` and `names.py` have the limits of blocks, packs
and names, `tree.py` those of a request of mutations and of a version check.
"""

from __future__ import annotations

from typing import Final

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a gRPC message that every service accepts, in bytes."""
REQUEST_MEMORY_BYTES: Final = 128 * 1024 * 1024
"""Memory in bytes for the incoming requests of one service process; the default of its setting."""
UNREAD_MEMORY_BYTES: Final = 64 * 1024 * 1024
"""Memory in bytes for the answers of one service process that clients have not read yet; the default of its setting."""
MAX_FIND_DIGESTS: Final = 10_000
"""Maximum number of digests in one FindMissingObjects call."""
MAX_SEAL_DECLARATIONS: Final = 1_000
"""Maximum number of declarations in one SealObjects call. A declaration is one uploaded object that the client wants to
be verified.
"""
MAX_SEAL_REQUEST_BYTES: Final = 3 * 1024 * 1024
"""Maximum size of a request of SealObjects, in bytes. Sixteen packs of 4,096 blocks take 2.5 MB."""
MAX_SEAL_READ_BYTES: Final = 512 * 1024 * 1024
"""Maximum number of bytes that the service reads for one SealObjects call: packs, manifests, and objects without S3's
SHA-256.
"""
MAX_SEAL_FORMS: Final = 16
"""Maximum number of forms (block, manifest, packs) in which one object is declared in one SealObjects call."""
MIN_UNSEALED_BYTES: Final = 64 * 1024
"""Minimum number of bytes with which an unsealed object counts against the quota, because many small objects cost as
much as few large ones.
"""
MAX_QUOTA_BYTES: Final = 1 << 60
"""Maximum quota of a space or of a person, in bytes."""
MAX_STORED_QUOTAS: Final = 2
"""Maximum size of all objects of a space together, sealed or not, as a multiple of the quota of the space. Sealed
objects that no version names are left over from changes that were not made; the second quota leaves room for them in a
space that is nearly full.
"""
MAX_PAGE_ITEMS: Final = 1_000
"""Maximum number of items on one page of any listing."""
MAX_WATCHED_SPACES: Final = 100
"""Maximum number of spaces of one Watch call."""
MAX_CHECKED_RIGHTS: Final = 100
"""Maximum number of spaces in one request for the rights of callers, and also of devices."""
MAX_MEASURED_NODES: Final = 100
"""Maximum number of nodes in one MeasureTree call."""
MAX_QUERY_CHARACTERS: Final = 255
"""Maximum length of a search query, in characters."""
MAX_LABEL_CHARACTERS: Final = 100
"""Maximum length of the name of a space, device or key, in characters."""
MAX_REASON_CHARACTERS: Final = 500
"""Maximum length of the reason that an administrator gives for a suspension, in characters."""
MIN_PASSWORD_CHARACTERS: Final = 8
MAX_PASSWORD_CHARACTERS: Final = 1024

DEFAULT_DEADLINE_SECONDS: Final = 30
"""Seconds after which a service ends a unary call for which the client set no deadline."""
MAX_KEY_SPACES: Final = 50
"""Maximum number of spaces to which a program's key can be limited."""

ACCESS_TOKEN_SECONDS: Final = 15 * 60
LINK_TOKEN_SECONDS: Final = 12 * 3600
PROOF_SECONDS: Final = 24 * 3600
"""Seconds for which the proof of an e-mail address that was mailed is valid."""
RESET_SECONDS: Final = 3600
"""Seconds for which the reset of a password that was mailed is valid."""
INVITATION_DAYS: Final = 7
"""Days for which an invitation to make an account is valid."""
SPACE_INVITATION_DAYS: Final = 14
"""Days for which an invitation to a space is valid."""
REFRESH_TOKEN_IDLE_DAYS: Final = 60
"""Days after which a device that has not refreshed its tokens is signed out."""
BROWSER_KEY_IDLE_DAYS: Final = 30
"""Days after which a browser's key that was not exchanged expires."""
PROGRAM_KEY_DAYS: Final = 366
"""Maximum lifetime of a program's key, in days."""
ANSWER_DAYS: Final = 30
"""Days for which the answer to a mutation request is kept. A repeated request gets the same answer."""
MIN_CREDENTIALS_SECONDS: Final = 5 * 60
"""Minimum remaining lifetime of S3 credentials when they are handed out, in seconds."""
CREDENTIALS_SECONDS: Final = 15 * 60
"""Default lifetime of S3 credentials, in seconds. Credentials outlive the right that they were issued for by at most
their lifetime: STS issues no credentials for a shorter lifetime, and cannot revoke credentials.
"""
MAX_CREDENTIALS_SECONDS: Final = 3600
"""Maximum lifetime of S3 credentials, in seconds."""
REVOCATION_SECONDS: Final = 10
"""Seconds after which a removed member or a revoked device reads nothing more from the services."""
DELETED_SPACE_DAYS: Final = 30
"""Days for which a deleted space can be undeleted; the default of the setting."""
