"""Spaces, directories and files as WsgiDAV resources, for one request.

A symbolic link has no form in WebDAV, so it is not listed; its name is refused as taken.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from wsgidav.dav_provider import DAVCollection, DAVNonCollection, DAVProvider
from wsgidav.util import etree

from gateway.content.file_headers import content_type, etag_of
from gateway.dav import properties, saving
from gateway.dav.locks import Locks
from gateway.dav.parts import MOUNT
from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession, DavSpace
from gateway.http.dates import seconds_of
from syncline.model.blocks import EMPTY_MANIFEST, Digest
from syncline.model.errors import InvalidArgument
from syncline.model.names import name_problem, normalized_path
from syncline.model.printable import spaced
from syncline.model.tree import Content, CreateNode, Mutation, Node, NodeKind, UpdateContent

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SAFE: Final = "/!*'(),$-_|.~"
_EMPTY: Final = Content(
    Digest(bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")),
    0,
    manifest=EMPTY_MANIFEST,
)
_NANOSECONDS: Final = 1_000_000_000
_SECONDS: Final = re.compile(r"-?[0-9]{1,11}")
_FOREIGN: Final = ("{http://owncloud.org/ns}", "{http://nextcloud.org/ns}")
"""XML namespaces of properties that other servers compute. Clients request these properties from every server, so they
are reported as missing without being looked up, and cannot be set.
"""
_GET_LAST_MODIFIED: Final = "{DAV:}getlastmodified"
_WINDOWS_MTIME: Final = "{urn:schemas-microsoft-com:}Win32LastModifiedTime"
_DATES: Final = frozenset({_GET_LAST_MODIFIED, _WINDOWS_MTIME})
_QUOTA: Final = frozenset({"{DAV:}quota-used-bytes", "{DAV:}quota-available-bytes"})


def parts_of(path: str) -> tuple[str, ...]:
    """Return the names in a path below the mount point, in order. The first is the alias of the space, and the others
    are the names of directories and of a node in it. Raise InvalidArgument if a name is invalid.
    """
    return normalized_path(path)


def _of_date(text: str) -> int:
    """Return an HTTP date in nanoseconds since 1970. Raise DavRefused if the text is no date."""
    try:
        return seconds_of(text) * _NANOSECONDS
    except (ValueError, OverflowError):
        raise DavRefused(HTTPStatus.CONFLICT, "that is no date") from None


def _of_seconds(text: str) -> int:
    """Return the time in `text`, a number of seconds since 1970, in nanoseconds. Raise DavRefused if the text is no
    number.
    """
    if not _SECONDS.fullmatch(text):
        raise DavRefused(HTTPStatus.CONFLICT, "that is no number of seconds since 1970")
    return int(text) * _NANOSECONDS


_MTIMES: Final = {_GET_LAST_MODIFIED: _of_date, _WINDOWS_MTIME: _of_date, "{DAV:}lastmodified": _of_seconds}
"""Properties by which programs set the modification time of a file. Setting one changes the file itself and stores no
property.
"""


class Provider(DAVProvider):  # type: ignore[misc]  # WsgiDAV has no types
    """WsgiDAV's provider, which exposes the caller's spaces."""

    def __init__(self, session: DavSession, locks: Locks) -> None:
        super().__init__()
        self.session = session
        self.set_share_path("")
        self.set_mount_path(MOUNT)
        self.set_lock_manager(locks)

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> Resource | None:
        try:
            names = parts_of(path)
        except InvalidArgument as error:
            raise DavRefused(HTTPStatus.BAD_REQUEST, str(error), reason=error.reason) from None
        if not names:
            return Top("/", environ)
        space = self.session.person.spaces.get(names[0])
        if space is None:
            return None
        node = self.session.find(space, names[1:])
        return None if node is None else resource("/" + "/".join(names), environ, space, node)

    def is_readonly(self) -> bool:
        return False


class StoredProperty(str):
    """The XML of a property in the form in which it was stored for a client: well-formed and ASCII, so that it can be
    sent without being parsed.
    """

    __slots__ = ()


class Resource:
    """Base of all resources, which reads and writes the properties of a resource."""

    if TYPE_CHECKING:
        path: str
        name: str
        environ: dict[str, Any]
        provider: Provider
        is_collection: bool

    space: DavSpace | None = None
    node: Node | None = None
    _dead_properties: Mapping[str, str] | None = None

    def get_href(self) -> str:
        path = self.path.rstrip("/") + "/" if self.is_collection else self.path
        return quote(self.provider.session.mount + path, safe=_SAFE)

    def get_content_type(self) -> str | None:
        return None

    def get_last_modified(self) -> float | None:
        return None

    def get_etag(self) -> str | None:
        """Return the entity tag without its quotation marks; None if there is none."""
        return None

    def support_etag(self) -> bool:
        return self.get_etag() is not None

    def prevent_locking(self) -> bool:
        return self.space is None

    def get_property_names(self, *, is_allprop: bool) -> list[str]:
        names: list[str] = super().get_property_names(is_allprop=is_allprop)  # type: ignore[misc]
        if self.space is not None and self.node is not None:
            names += self._stored()
        return names

    def _stored(self) -> Mapping[str, str]:
        """Return the properties that clients have set on this resource, by name; they are read once."""
        if self._dead_properties is None:
            assert self.space is not None
            assert self.node is not None
            self._dead_properties = properties.read_properties(self.provider.session, self.space, self.node.id)
        return self._dead_properties

    def get_property_value(self, name: str) -> Any:
        if name == "{DAV:}getetag":
            etag = self.get_etag()
            if etag is not None:
                return f'"{etag}"'
        elif name == "{DAV:}lockdiscovery":
            return self._locks()
        elif name in _QUOTA:
            return self._quota(name)
        elif name in _DATES:
            changed = self.get_last_modified()
            if changed is not None:
                return formatdate(changed, usegmt=True)
            if name == _GET_LAST_MODIFIED:
                raise DavRefused(HTTPStatus.NOT_FOUND, "there is no such property")
            return self._dead(name)
        elif not name.startswith("{DAV:}"):
            return self._dead(name)
        value = super().get_property_value(name)  # type: ignore[misc]
        # A name may contain characters that are invalid in XML, and one of them would make the whole listing
        # unreadable.
        return spaced(value) if isinstance(value, str) else value

    def _dead(self, name: str) -> StoredProperty:
        value = None
        if self.space is not None and self.node is not None and not name.startswith(_FOREIGN):
            value = self._stored().get(name)
        if value is None:
            raise DavRefused(HTTPStatus.NOT_FOUND, "there is no such property")
        return StoredProperty(value)

    def set_property_value(self, name: str, value: Element | None, *, dry_run: bool = False) -> None:
        """Check that the property `name` (in Clark notation) can be set to `value`, or removed if `value` is None, and
        record the change. The request writes all properties together at its end. If `dry_run`, WsgiDAV only checks, and
        properties that the gateway keeps are not recorded. Raise DavRefused for a property that cannot be set.
        """
        if name in _MTIMES and isinstance(self, File):
            if value is None:
                raise DavRefused(HTTPStatus.FORBIDDEN, "the modification time cannot be removed; set another one")
            self.environ["syncline.mtime_ns"] = _MTIMES[name]((value.text or "").strip())
            return
        if name.startswith(_FOREIGN):
            raise DavRefused(HTTPStatus.FORBIDDEN, f"{name} is a property of other servers")
        if name.startswith("{DAV:}"):
            raise DavRefused(
                HTTPStatus.FORBIDDEN, f"{name} cannot be set", condition="{DAV:}cannot-modify-protected-property"
            )
        if self.space is None or self.node is None:
            raise DavRefused(HTTPStatus.FORBIDDEN, "only what is in a space can have properties")
        if not dry_run:
            text = None if value is None else etree.tostring(value).decode("ascii")
            self.environ.setdefault("syncline.properties", []).append((name, text))

    def _locks(self) -> Element:
        """Return the active locks, including those of directories above."""
        discovered: Element = etree.Element("{DAV:}lockdiscovery")
        if self.space is None:
            return discovered
        for lock in self.provider.lock_manager.get_indirect_url_lock_list(self.get_ref_url()):  # type: ignore[attr-defined]
            active = etree.SubElement(discovered, "{DAV:}activelock")
            etree.SubElement(etree.SubElement(active, "{DAV:}locktype"), "{DAV:}write")
            etree.SubElement(etree.SubElement(active, "{DAV:}lockscope"), f"{{DAV:}}{lock['scope']}")
            etree.SubElement(active, "{DAV:}depth").text = lock["depth"]
            if lock["owner"]:
                active.append(etree.XML(lock["owner"]))
            etree.SubElement(active, "{DAV:}timeout").text = f"Second-{int(lock['timeout'])}"
            etree.SubElement(etree.SubElement(active, "{DAV:}locktoken"), "{DAV:}href").text = lock["token"]
            etree.SubElement(etree.SubElement(active, "{DAV:}lockroot"), "{DAV:}href").text = (
                self.provider.session.mount + lock["root"]
            )
        return discovered

    def _quota(self, name: str) -> str:
        if self.space is not None and self.is_collection:
            usage = self.provider.session.usage(self.space)
            if name == "{DAV:}quota-used-bytes":
                return str(usage.used)
            return str(max(usage.quota - usage.used, 0))
        raise DavRefused(HTTPStatus.NOT_FOUND, "there is no such property")


class Collection(Resource, DAVCollection):  # type: ignore[misc]
    """A resource that contains other resources (a collection in RFC 4918), such as a directory."""

    def members(self) -> Iterator[Sequence[Resource]]:
        """Yield the resources in this one, some at a time, so that a large directory is never in memory as a whole."""
        raise NotImplementedError

    def get_member(self, name: str) -> Resource | None:
        return self.provider.get_resource_inst(f"{self.path.rstrip('/')}/{name}", self.environ)

    def get_member_names(self) -> list[str]:
        return [member.name for page in self.members() for member in page]

    def create_collection(self, name: str) -> None:
        del name
        raise _beside_spaces()

    def create_empty_resource(self, name: str) -> Resource:
        del name
        raise _beside_spaces()


class Top(Collection):
    """The root of the mount, which contains the spaces."""

    def members(self) -> Iterator[Sequence[Resource]]:
        yield [
            DirectoryResource(f"/{space.name}", self.environ, space, node)
            for space in self.provider.session.person.spaces.values()
            if (node := self.provider.session.find(space, ())) is not None
        ]

    def get_display_name(self) -> str:
        return "Syncline"


class DirectoryResource(Collection):
    """A directory of a space, or its root."""

    space: DavSpace
    node: Node

    def __init__(self, path: str, environ: dict[str, Any], space: DavSpace, node: Node) -> None:
        super().__init__(path, environ)
        self.space = space
        self.node = node

    def members(self) -> Iterator[Sequence[Resource]]:
        above = self.path.rstrip("/")
        for page in self.provider.session.pages(self.space, self.node.id):
            yield [
                one
                for child in page
                if (one := resource(f"{above}/{child.name}", self.environ, self.space, child)) is not None
            ]

    def get_last_modified(self) -> float | None:
        return self.node.committed_at_ms / 1000 or None

    def create_collection(self, name: str) -> None:
        name = checked_name(name)
        if not saving.bring_back_empty(self.provider.session, self.space, self.node.id, self._names(name)):
            self.provider.session.commit_one(self.space, CreateNode(self.node.id, name, NodeKind.DIRECTORY))

    def create_empty_resource(self, name: str) -> Resource:
        """Make an empty file with a name that is free in this directory, for a LOCK of that name, and return it. If the
        client has just removed a file with this name, that file is restored instead, with an empty new version.
        """
        name, session = checked_name(name), self.provider.session
        content = replace(_EMPTY, mtime_ns=time.time_ns())
        over = saving.bring_back(session, self.space, self.node.id, self._names(name), NodeKind.FILE, written=False)
        if over is None:
            change: Mutation = CreateNode(self.node.id, name, NodeKind.FILE, content)
        else:
            change = UpdateContent(over.id, over.version, content)
        made = session.commit_one(self.space, change)
        return File(f"{self.path.rstrip('/')}/{made.name}", self.environ, self.space, made)

    def _names(self, name: str) -> tuple[str, ...]:
        """Return the names on the path from the root of the space to the node with this name in the directory."""
        return (*parts_of(self.path)[1:], name)


class File(Resource, DAVNonCollection):  # type: ignore[misc]
    """A file in a space."""

    space: DavSpace
    node: Node

    def __init__(self, path: str, environ: dict[str, Any], space: DavSpace, node: Node) -> None:
        super().__init__(path, environ)
        assert node.content is not None, "a file has a content"
        self.space = space
        self.node = node
        self.content = node.content

    def get_content_length(self) -> int:
        return self.content.size

    def get_content_type(self) -> str:
        return content_type(self.name)

    def get_etag(self) -> str:
        return etag_of(self.content).strip('"')

    def get_last_modified(self) -> float:
        return self.content.mtime_ns // _NANOSECONDS

    def support_ranges(self) -> bool:
        return True

    def get_content(self) -> Any:
        """Raise NotImplementedError: contents are sent on the event loop, so this is never called."""
        raise NotImplementedError


def resource(path: str, environ: dict[str, Any], space: DavSpace, node: Node) -> Resource | None:
    """Return a node as a resource; None for a symbolic link."""
    match node.kind:
        case NodeKind.DIRECTORY:
            return DirectoryResource(path, environ, space, node)
        case NodeKind.FILE:
            return File(path, environ, space, node)
        case NodeKind.SYMLINK:
            return None


def checked_name(name: str) -> str:
    """Return a name in normal form. Raise DavRefused if it is invalid."""
    name = unicodedata.normalize("NFC", name)
    if problem := name_problem(name):
        raise DavRefused(HTTPStatus.BAD_REQUEST, problem, reason="NAME_INVALID")
    return name


def _beside_spaces() -> DavRefused:
    return DavRefused(
        HTTPStatus.FORBIDDEN, "only spaces can be at this level; make one in the web app or by `syncline spaces create`"
    )
