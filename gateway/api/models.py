"""The messages of the API as JSON. Digests and node ids are lower-case hex, times are milliseconds since 1970, sizes
are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, Strict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.identifiers import HexDigest, NodeText
from syncline.model.blocks import MAX_BLOCK_BYTES, MAX_OBJECT_BYTES, MAX_PACK_ENTRIES
from syncline.model.names import MAX_PATH_BYTES, normalize
from syncline.model.tree import MAX_MUTATIONS

MAX_SEAL_OBJECTS: int = 1000
MAX_UPLOAD_OBJECTS: int = 100
MAX_ARCHIVE_NODES: int = 100
"""Maximum number of nodes that a request for an archive may list, besides the nodes below them."""
_SIGNED_64 = 2**63 - 1

Email = Annotated[str, StringConstraints(min_length=3, max_length=254)]
Password = Annotated[str, StringConstraints(max_length=1024)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# A device may have files whose names contain control characters, and such names are kept; in a request to this API they
# are refused, because they are hardly intended.
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$"),
    AfterValidator(normalize),
]
"""The name of a node, normalised to NFC."""
Path = Annotated[str, StringConstraints(max_length=MAX_PATH_BYTES, pattern=r"^[^\x00-\x1f\x7f]*$")]
TimeMs = Annotated[int, Field(ge=0, le=253_402_300_799_999)]
FileTimeMs = Annotated[int, Field(ge=-62_135_596_800_000, le=253_402_300_799_999)]
"""The time at which a file was changed, in the years 1 to 9999. A time that cannot be stored is replaced by the nearest
one that can.
"""
Size = Annotated[int, Field(ge=0, le=_SIGNED_64)]
Number = Annotated[int, Field(ge=1, le=_SIGNED_64)]


class Given(BaseModel):
    """Base of the messages that a client sends: an unknown field is an error.

    Only the first fault of a list (FailFast) and the first unknown field of an object are reported. Otherwise a body
    could have as many faults as bytes, each of which costs more than a valid value.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_known_fields(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > len(cls.model_fields):
            unknown = next(name for name in given if name not in cls.model_fields)
            raise PydanticCustomError("unknown_field", "there is no field {name}", {"name": repr(unknown[:100])})
        return given


class Told(BaseModel):
    """Base of the messages that the API answers with."""

    model_config = ConfigDict(frozen=True)


class Problem(Told):
    """The description of any error (RFC 9457). Programs branch on `reason`, which is the same in gRPC."""

    title: str
    status: int
    detail: str
    reason: str
    request_id: str
    details: dict[str, Any] = {}


# ---- accounts and devices


class SignIn(Given):
    """The account and the device to sign in. With `browser`, a cookie is set and no refresh token is issued."""

    email: Email
    password: Password
    device_name: Label
    browser: bool = False


class SignUp(SignIn):
    """The account to create, and its first device. With `browser`, a cookie is set and no refresh token is issued."""

    invitation: Annotated[str, StringConstraints(max_length=128)] = Field(
        default="", description="The token of an invitation for the address, which admits it whatever the policy is."
    )


class Refresh(Given):
    """The refresh token to exchange for new tokens."""

    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class AddressProof(Given):
    """The proof of an address, as it was mailed."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Tokens(Told):
    """The tokens of a signed-in device. A browser has a cookie instead."""

    access_token: str
    access_expires_at_ms: int
    refresh_token: str


class Account(Told):
    """A person with an account."""

    user_id: str
    email: str
    personal_space_id: str
    proven: bool = Field(description="False until the person has proven that mail to the address arrives.")
    admin: bool = Field(description="True for the person who runs the system.")


class Device(Told):
    """An installed client, a browser, or a program with a key."""

    device_id: str
    name: str
    kind: Literal["client", "browser", "program"]
    created_at_ms: int
    last_seen_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    current: bool
    made_by: str | None = Field(description="The device that made the program's key, if it is known.")


class SignedIn(Told):
    """The result of a sign-in: `tokens` for a program, `csrf_token` for a browser."""

    account: Account
    device: Device
    tokens: Tokens | None = None
    csrf_token: str | None = None


class Devices(Told):
    """Devices of a person, newest first."""

    devices: list[Device]
    next_page_token: str | None = None


class NewKey(Given):
    """The key to make, with which a program acts on behalf of the caller."""

    name: Label
    expires_at_ms: TimeMs


class Key(Told):
    """A new key of a program, which is shown only this once."""

    device: Device
    key: str


# ---- spaces

RoleName = Literal["owner", "editor", "viewer"]


class Space(Told):
    """A space as the caller sees it, with the caller's role and name for it."""

    space_id: str
    name: str
    role: RoleName
    personal: bool
    alias: str = Field(
        description="The caller's own name for the space, in WebDAV and on the command line. It never changes, and "
        "never becomes another space's."
    )


class Spaces(Told):
    """Spaces: the personal one first, the others by name."""

    spaces: list[Space]
    next_page_token: str | None = None


class NewSpace(Given):
    """The shared space to create."""

    name: Label


class Usage(Told):
    """The usage of a space: its sequence number, the used bytes and the quota, the number of files and directories
    (including those in the trash) and its maximum, and the uploaded bytes that are not sealed.
    """

    head: int
    used_bytes: int
    quota_bytes: int
    nodes: int
    max_nodes: int | None
    unsealed_bytes: int
    unsealed_objects: int


class Member(Told):
    """A person with a role in a space."""

    user_id: str
    email: str
    role: RoleName


class Members(Told):
    """Members of a space, in the order of their addresses."""

    space_name: str
    members: list[Member]
    next_page_token: str | None = None


class NewRole(Given):
    """The role to give to a person."""

    role: RoleName


# ---- nodes

KindName = Literal["file", "directory", "symlink"]


class Node(Told):
    """A node's state. `etag` is its entity tag, for `If-Match`."""

    id: str
    parent: str
    name: str
    kind: KindName
    version: int
    etag: str
    seq: int
    size: int | None = None
    digest: str | None = None
    mtime_ms: int | None = None
    executable: bool = False
    target: str | None = None
    media_type: str | None = None
    user_id: str
    device_id: str
    committed_at_ms: int
    deleted_at_ms: int | None = None


class Located(Node):
    """A node and its path from the top of the space."""

    path: str


class Nodes(Told):
    """One page of nodes; `next_page_token` leads to the next one."""

    nodes: list[Node]
    next_page_token: str | None = None


class FoundNodes(Told):
    """One page of nodes with their paths."""

    nodes: list[Located]
    next_page_token: str | None = None


class NewFolder(Given):
    """The directory to create."""

    parent: NodeText
    name: Name


class Move(Given):
    """The directory and the name that a node gets. A field that is left out keeps its value."""

    parent: NodeText | None = None
    name: Name | None = None


class Copy(Given):
    """The directory and the name that a copy gets."""

    parent: NodeText
    name: Name


class Restore(Given):
    """The directory and the name of a node after it is restored from the trash. A field that is left out keeps its
    former value.

    Missing directories that were deleted are created again. A name that the request does not state is replaced by a
    free one if it is taken.
    """

    parent: NodeText | None = None
    name: Name | None = None
    path: Path | None = Field(
        default=None,
        description="Instead of the other fields: a path from the top of the space, or an existing directory.",
    )


class Version(Told):
    """One version of a file: its number, its content, and who made it."""

    version: int
    size: int
    digest: str
    mtime_ms: int
    user_id: str
    device_id: str
    committed_at_ms: int


class Versions(Told):
    """Versions of a file, newest first."""

    versions: list[Version]
    next_page_token: str | None = None


ChangeName = Literal["created", "updated", "moved", "deleted", "restored"]


class Activity(Told):
    """One change to one node."""

    seq: int
    change: ChangeName
    node: Node
    from_name: str | None
    from_parent: str | None
    user_id: str
    device_id: str
    committed_at_ms: int


class Activities(Told):
    """Changes in a space, newest first."""

    activities: list[Activity]
    next_page_token: str | None = None


# ---- uploads


class WantedObject(Given):
    """An object that the caller may have to upload."""

    sha256: HexDigest
    size: Annotated[int, Field(ge=1, le=MAX_OBJECT_BYTES)]


class WantedObjects(Given):
    """Objects that the caller may have to upload."""

    objects: Annotated[list[WantedObject], FailFast(), Field(min_length=1, max_length=MAX_UPLOAD_OBJECTS)]


class Upload(Told):
    """The address and the exact headers for uploading an object to S3; empty if the object is stored already.

    An object that is `stored` is sealed as one block. If it is a pack or a manifest, it has to be sealed as such all
    the same.
    """

    sha256: str
    stored: bool
    method: Literal["PUT"] | None = None
    url: str | None = None
    headers: dict[str, str] | None = None
    expires_at_ms: int | None = None


class Uploads(Told):
    """The upload addresses of the requested objects, in the same order."""

    uploads: list[Upload]


class Pack(Given):
    """The blocks of a pack, in the order of their offsets."""

    blocks: Annotated[list[HexDigest], FailFast(), Field(min_length=1, max_length=MAX_PACK_ENTRIES)]
    offsets: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_OBJECT_BYTES)]], FailFast(), Field(max_length=MAX_PACK_ENTRIES)
    ]
    lengths: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_BLOCK_BYTES)]], FailFast(), Field(max_length=MAX_PACK_ENTRIES)
    ]


class StoredObject(Given):
    """An uploaded object: one block, or a pack of them, or a serialised manifest."""

    sha256: HexDigest
    size: Annotated[int, Field(ge=1, le=MAX_OBJECT_BYTES)]
    pack: Pack | None = None
    manifest: bool = False


class StoredObjects(Given):
    """Objects that the caller has uploaded."""

    objects: Annotated[list[StoredObject], FailFast(), Field(min_length=1, max_length=MAX_SEAL_OBJECTS)]


class Sealed(Told):
    """One verdict for each object: SEALED, or the reason that it is not sealed.

    After OBJECT_MISSING, SIZE_MISMATCH or CHECKSUM_MISMATCH, request a new address and upload the object again.
    """

    verdicts: list[str]


_Length = Annotated[int, Field(ge=1, le=MAX_BLOCK_BYTES, strict=True)]
_Offset = Annotated[int, Field(ge=0, le=MAX_OBJECT_BYTES, strict=True)]
# JSON has no tuples, so lists are accepted for them.
_Whole = Annotated[tuple[HexDigest, _Length], Strict(strict=False)]
_Part = Annotated[tuple[HexDigest, _Length, HexDigest, _Offset], Strict(strict=False)]


class Content(Given):
    """A file's content. A block is `[sha256, length]`, or `[sha256, length, object, offset]` as a part of a pack."""

    digest: HexDigest
    size: Size
    mtime_ms: FileTimeMs = 0
    executable: bool = False
    blocks: Annotated[list[_Whole | _Part], FailFast(), Field(max_length=1024)] = []
    manifest_object: HexDigest | None = None


class Made(Given):
    """A reference to a directory that an earlier change of the same request creates."""

    change: Annotated[int, Field(ge=0, lt=MAX_MUTATIONS)]


class Create(Given):
    """A file or directory to create."""

    parent: NodeText | Made
    name: Name
    kind: Literal["file", "directory"]
    content: Content | None = None


class Update(Given):
    """A new version of a file; refused unless `base_version` is current."""

    node: NodeText
    base_version: Number
    content: Content


class Change(Given):
    """One change: either a creation or an update."""

    create: Create | None = None
    update: Update | None = None


class Changes(Given):
    """Changes that are applied in order, in one journal entry, each with its own verdict."""

    changes: Annotated[list[Change], FailFast(), Field(min_length=1, max_length=MAX_MUTATIONS)]


class Result(Told):
    """The outcome of one change. ACCEPTED comes with the node's new state; any other verdict is the reason for the
    refusal, and comes with the node that prevents the change, such as the one that already has the name, if there is
    one.
    """

    verdict: str
    node: Node | None = None


class Results(Told):
    """One result for each change, in order."""

    seq: int
    results: list[Result]


# ---- links


class NewLink(Given):
    """The public link to create for a node."""

    node: NodeText
    password: Password | None = None
    expires_at_ms: TimeMs | None = None
    max_downloads: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class Link(Told):
    """A public link to a node of a space."""

    link_id: str
    space_id: str
    node: str
    user_id: str
    created_at_ms: int
    expires_at_ms: int | None
    has_password: bool
    max_downloads: int | None
    downloads: int
    made_by: str | None = Field(description="The device that made the link, if it is known.")


class DeviceEnd(Told):
    """The result of revoking a device: the keys and links that were revoked together with it, and the links made from
    it that stay valid.

    A list that is too long for one answer is cut; the counts include all.
    """

    ended_keys: list[Device]
    ended_links: list[Link]
    remaining_links: list[Link] = Field(description="Public links of the device that are still valid.")
    ended_key_count: int
    ended_link_count: int
    remaining_link_count: int


class CreatedLink(Link):
    """A public link with its address, which is shown only this once."""

    token: str
    url: str


class Links(Told):
    """Links of a space, newest first."""

    links: list[Link]
    next_page_token: str | None = None


class OpenLink(Given):
    """The token from the address of a public link, and the link's password if it has one."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Password = ""


class OpenedLink(Told):
    """The linked node, `top`, which is `root` for a whole space, and a token that gives read access to it."""

    link_id: str
    access_token: str
    access_expires_at_ms: int
    top: str
    node: Node | None
    max_downloads: int | None
    downloads: int
    expires_at_ms: int | None


# ---- notifications

Mail = Literal["instant", "off"]


class Preference(Given):
    """The mail mode to set: when the caller is mailed about changes that others make in a space."""

    mode: Mail


class Preferred(Told):
    """The mail mode in effect: when the caller is mailed about changes that others make in a space."""

    mode: Mail
