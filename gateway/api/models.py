"""The messages of the API as JSON. Digests and node ids are lower-case hex, times are milliseconds since 1970, sizes
are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, Strict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.identifiers import HexDigest, NodeText, TextId
from syncline.model.accounts import KeyScope
from syncline.model.blocks import MAX_BLOCK_BYTES, MAX_OBJECT_BYTES, MAX_PACK_ENTRIES
from syncline.model.limits import MAX_KEY_SPACES, MAX_QUOTA_BYTES, MAX_REASON_CHARACTERS
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
Scope = Literal["read", "write", "share"]
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


class AccountOnDevice(Given):
    """The account and the device of a new session. With `browser`, a cookie is set and no refresh token is issued."""

    email: Email
    password: Password
    device_name: Label
    browser: bool = False


class SignIn(AccountOnDevice):
    """The account and the device to sign in, with the code of a second factor. With `browser`, a cookie is set and no
    refresh token is issued.
    """

    code: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="", description="A code of the account's authenticator app, or a recovery code; empty without a factor."
    )


class SignUp(AccountOnDevice):
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


class NewPassword(Given):
    """The current password of the account, and the one that it gets."""

    current_password: Password
    new_password: Password


class ResetRequest(Given):
    """The address to which a reset is mailed."""

    email: Email


class PasswordReset(Given):
    """The token of a reset, as it was mailed, and the password that the account gets."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    new_password: Password


class PasswordAgain(Given):
    """The password of the account, as confirmation."""

    password: Password


class FactorCode(Given):
    """A code that the authenticator app shows."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class PasswordAndCode(PasswordAgain, FactorCode):
    """The password of the account, and a code of its authenticator app or a recovery code."""


class Factor(Told):
    """A second factor: an authenticator app."""

    added_at_ms: int = Field(description="When it was confirmed, in milliseconds since 1970.")
    recovery_codes_left: int = Field(description="How many of the ten recovery codes were not used.")


class Factors(Told):
    """The second factors of an account: one or none."""

    factors: list[Factor]


class NewFactor(Told):
    """The secret of an authenticator app, which is shown only this once."""

    secret: str = Field(description="The secret in base32, for an app that cannot read the QR code.")
    uri: str = Field(description="The secret as `otpauth:` URI.")
    qr: str = Field(description="The URI as QR code: an SVG image.")


class RecoveryCodes(Told):
    """The codes that replace a lost authenticator app, which are shown only this once. Each works once."""

    recovery_codes: list[str]


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
    admin: bool = Field(description="True for an administrator.")
    guest: bool = Field(
        description="True for a person who was admitted by an invitation to a space alone. A guest makes no spaces, "
        "links or keys, and cannot write to the personal space."
    )


class UserUsage(Told):
    """The quota of all spaces that count for a person together, and how much of it is taken. A space counts for the
    owner who made it or has taken it over.
    """

    quota_bytes: int | None = Field(default=None, description="Absent if the person has no quota.")
    reserved_bytes: int = Field(description="The sizes of all versions, with up to 64 MiB more for each space.")


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
    scopes: list[str] | None = Field(default=None, description="What a program's key is for.")
    spaces: list[str] | None = Field(
        default=None, description="The only spaces that a program's key opens, if not all."
    )


class SignedIn(Told):
    """The result of a sign-in: `tokens` for a program, `csrf_token` for a browser."""

    account: Account
    device: Device
    tokens: Tokens | None = None
    csrf_token: str | None = None
    space_id: str | None = Field(default=None, description="The space to which the invitation of a sign-up has led.")
    usage: UserUsage | None = Field(default=None, description="Absent in the answer to a sign-in or a sign-up.")


class Devices(Told):
    """Devices of a person, newest first."""

    devices: list[Device]
    next_page_token: str | None = None


class NewKey(Given):
    """The key to make, with which a program acts on behalf of the caller."""

    name: Label
    expires_at_ms: TimeMs
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(KeyScope))] = Field(
        default=["read", "write"], description="What the key is for. A key that writes or shares also reads."
    )
    spaces: Annotated[list[TextId], Field(min_length=1, max_length=MAX_KEY_SPACES)] | None = Field(
        default=None, description="The only spaces that the key opens; by default all spaces of the caller."
    )


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
    deleted_at_ms: int | None = Field(default=None, description="When the space was deleted; null if it is not.")
    restorable_until_ms: int | None = Field(
        default=None, description="Until when a deleted space can be undeleted; null if it is not deleted."
    )


class Spaces(Told):
    """Spaces: the personal one first, the others by name."""

    spaces: list[Space]
    next_page_token: str | None = None


class DeletedSpaces(Told):
    """Deleted spaces, by name."""

    spaces: list[Space]
    next_page_token: str | None = None


class NewSpace(Given):
    """The shared space to create."""

    name: Label


class NewName(Given):
    """Another name for a space."""

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


class Invitation(Told):
    """The offer of a role in a space to an address that had no proven account. `space_name` is the name of the space
    when the invitation was made.
    """

    space_id: str
    space_name: str
    email: str
    role: RoleName
    invited_by: str = Field(description="The address of the owner who invites.")
    created_at_ms: int
    expires_at_ms: int


class Invitations(Told):
    """Invitations to spaces that nobody has taken up, in the order of addresses."""

    invitations: list[Invitation]
    next_page_token: str | None = None


class InvitationToken(Given):
    """The token of an invitation, as it was mailed."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=128)]


class PresentedInvitation(Told):
    """The invitation with a token."""

    email: str | None = Field(description="The address that may make an account; null for the first account.")
    expires_at_ms: int
    space: Invitation | None = Field(description="The offer of a role in a space, if the invitation has one.")
    guest: bool = Field(description="True if an account that is made by it is that of a guest.")


class NewRole(Given):
    """The role to give to a person."""

    role: RoleName


class Transfer(Given):
    """The person who becomes owner of a space, and the role that the caller has from then on."""

    email: Email
    keep_role: RoleName | None = Field(description="The role of the caller from then on; null to leave the space.")


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


class PasswordChanged(Told):
    """The result of changing the password: the devices that were signed out and the keys that were ended by this
    request, and the keys that the calling device has made, which still work.

    A list that is too long for one answer is cut; the counts include all.
    """

    ended_devices: list[Device]
    ended_keys: list[Device]
    remaining_keys: list[Device] = Field(description="Keys that the calling device has made, which still work.")
    ended_device_count: int
    ended_key_count: int
    remaining_key_count: int
    unfinished: bool = Field(
        description="True if some devices or keys could not be ended yet; they end a little later."
    )


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


# ---- administration

UserStateName = Literal["unproven", "suspended", "administrator"]
PolicyName = Literal["invited", "domains", "open"]


class UserSuspension(Told):
    """The suspension of a user."""

    since_ms: int
    by_user_id: str = Field(description="The administrator who suspended the user.")
    reason: str


class User(Told):
    """A person with an account, as administrators see it."""

    user_id: str
    email: str
    personal_space_id: str
    created_at_ms: int
    proven: bool = Field(description="False until the person has proven that mail to the address arrives.")
    admin: bool = Field(description="True for an administrator.")
    guest: bool = Field(description="True for a guest, who owns no space.")
    suspension: UserSuspension | None = None
    usage: UserUsage
    quota_set: bool = Field(description="True if the quota was set for this user; otherwise it is the usual one.")


class Users(Told):
    """Users, in the order of their addresses."""

    users: list[User]
    next_page_token: str | None = None


class UserSpace(Told):
    """A space in which a user has a role."""

    space_id: str
    name: str
    role: RoleName
    personal: bool


class UserSpaces(Told):
    """Spaces of a user: the personal one first, the others by name."""

    spaces: list[UserSpace]
    next_page_token: str | None = None


class NewInvitation(Given):
    """The invitation to make."""

    email: Email
    mail: bool = Field(default=False, description="Mail the invitation to the address.")


class MadeInvitation(Told):
    """An invitation, with which the owner of its address makes an account. `token` and `url` are absent if the
    invitation was mailed.
    """

    token: str | None = None
    url: str | None = None
    expires_at_ms: int


class SuspensionReason(Given):
    """The reason of a suspension, for administrators."""

    reason: Annotated[str, StringConstraints(max_length=MAX_REASON_CHARACTERS)] = ""


class SignOut(Given):
    """The devices to sign out: all clients and browsers, and with `end_keys` also the keys of programs."""

    end_keys: bool = False


class SignedOutDevices(Told):
    """The number of devices that were signed out, and of keys of programs that ended."""

    device_count: int
    key_count: int


class FactorRemoved(Told):
    """The result of removing a second factor: `removed` is False if the user had none."""

    removed: bool


class AdministratorRight(Given):
    """The right to administer the system that a user has from now on."""

    admin: bool


class NewQuota(Given):
    """The quota that a user or a space has from now on; without `quota_bytes` the usual one."""

    quota_bytes: Annotated[int, Field(ge=0, le=MAX_QUOTA_BYTES)] | None = None


class SpaceSummary(Told):
    """A space as administrators see it: nothing of its contents."""

    space_id: str
    name: str
    personal: bool
    owners: int = Field(description="The number of its owners.")
    created_at_ms: int
    deleted_at_ms: int | None = Field(default=None, description="The time at which an owner deleted it.")
    quota_bytes: int = Field(description="What its versions may have, whatever the quota of its owner leaves.")
    quota_set: bool = Field(description="True if the quota was set for this space; otherwise it is the usual one.")
    reserved_bytes: int = Field(description="The sizes of its versions, with up to 64 MiB more.")
    payer_user_id: str | None = Field(default=None, description="The owner for whom the reserved bytes count.")


class SpaceSummaries(Told):
    """Shared spaces, newest first."""

    spaces: list[SpaceSummary]
    next_page_token: str | None = None


class AuditActor(Told):
    """The caller who has acted: a person with a device, or another kind of caller, with its name if it has one."""

    kind: str
    user_id: str | None
    device_id: str | None
    name: str | None


class AuditSubject(Told):
    """A user, address, device, space or link that an act concerns."""

    kind: str
    id: str


class AuditEvent(Told):
    """An event of the audit log. `details` has texts that may come from callers."""

    event_id: str
    at_ms: int
    kind: str
    result: str
    actor: AuditActor
    subjects: list[AuditSubject]
    network: str | None
    request_id: str | None
    count: int = Field(description="The number of acts that the event stands for; above 1 for counted refusals.")
    details: dict[str, str]


class AuditEvents(Told):
    """Events of the audit log, newest first."""

    events: list[AuditEvent]
    next_page_token: str | None = None


class SignUpRules(Told):
    """The policy by which people come in."""

    sign_up_policy: PolicyName
    sign_up_domains: list[str]
    prove_addresses: bool
    invitation_seconds: int
    credential_seconds: int
    user_quota_bytes: int | None = Field(default=None, description="The usual quota of a user; absent for none.")
    space_quota_bytes: int = Field(description="The usual quota of a space.")
