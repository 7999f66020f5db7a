"""The methods of WebDAV. WsgiDAV parses requests and implements the RFC; this module implements what WsgiDAV leaves
open, and our deviations.

- PROPFIND is streamed, a page of a directory at a time; depth infinity is refused.
- PUT stores the content first and then changes the tree by one commit, so that an interrupted one changes nothing.
- DELETE, MOVE and COPY are changes of metadata. A replaced node goes to the trash in the same commit, but a file that
  is replaced by a file gets a new version (`saving.py`).
- GET and HEAD are handled elsewhere (`app.py`).
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import register_namespace

from wsgidav import util
from wsgidav.dav_error import DAVError, PRECONDITION_CODE_PropfindFiniteDepth
from wsgidav.request_server import RequestServer
from wsgidav.util import etree

from gateway.content.file_headers import etag_of
from gateway.dav import properties, saving, steps
from gateway.dav.bodies import Incoming, Step
from gateway.dav.checks import CheckedBody, expected_size
from gateway.dav.locks import RECORD, Locks
from gateway.dav.parts import MOUNT
from gateway.dav.provider import DirectoryResource, File, Provider, Resource, StoredProperty, checked_name, parts_of
from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession
from gateway.dav.upload import SpaceStorage, upload
from gateway.services.copies import RunningCopy, may_have_taken_effect
from runtime.interruption import ClientGone
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import NodeId, new_request_id
from syncline.model.tree import Content, CreateNode, MoveNode, Mutation, Node, NodeKind, UpdateContent
from syncline.model.verdicts import Verdict

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Environ = dict[str, Any]
StartResponse = Any

_MARK: Final = f"{{DAV:}}x{secrets.token_hex(16)}"
"""Placeholder element, with an unguessable name, which is replaced by the stored properties of a resource."""
_MARKED: Final = f"<D:{_MARK.removeprefix('{DAV:}')} />".encode()
_MTIME: Final = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?")
_WRITING: Final = frozenset({"COPY", "DELETE", "LOCK", "MKCOL", "MOVE", "PROPPATCH", "PUT", "UNLOCK"})
_LOOKING_AHEAD: Final = frozenset({"DELETE", "LOCK", "MOVE", "PUT"})
"""Methods that always need the node of the request, its directory and the locks; these are read together at the
start.
"""
_MAX_NAMED_PROPERTIES: Final = 64
"""Maximum number of properties that a PROPFIND may name, because each is looked up for each node in a directory."""
_MULTISTATUS: Final = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'


register_namespace("D", "DAV:")  # some clients recognise the elements only by this prefix


@dataclass(frozen=True, slots=True)
class Upload:
    """A PUT whose body is being received: the body, the headers and the Content-Length of the request (None if there is
    none), and the storage for the content.
    """

    body: Incoming
    headers: Mapping[str, str]
    length: int | None
    storage: SpaceStorage
    loop: asyncio.AbstractEventLoop


class TreeCopy:
    """Copies everything below a directory on the event loop. The code that handles the request runs in a worker: it
    yields `begin` once, and then `advance` again and again, each as a `Step` that the event loop awaits.
    """

    def __init__(self, enter: Callable[[], Awaitable[RunningCopy]]) -> None:
        """`enter` is a coroutine function that counts the copy as running until the end of the request, and raises
        TooMuchAtOnce if too many copies are running.
        """
        self.running: RunningCopy
        self.every: AsyncGenerator[list[tuple[NodeId, NodeId]], None] | None = None
        self.copied: list[tuple[NodeId, NodeId]] = []
        """The pairs of source and copy of the last commit, by their ids; empty once the copy is complete."""
        self._enter = enter

    async def begin(self) -> None:
        """Count the copy as running until the end of the request; called before anything is changed. Raise
        TooMuchAtOnce if too many copies are running.
        """
        self.running = await self._enter()

    async def advance(self) -> None:
        """Make the next commit of the copy, and set `copied` to the pairs of nodes that it has copied. If the copy is
        complete, only set `copied` to an empty list.

        Raise MutationRefused if a node cannot be created. If the copy has to end early, raise ClientGone, CopyTooLong
        or TokenExpired, as `RunningCopy.interrupting` does. The caller then undoes the copy.
        """
        assert self.every is not None
        with self.running.interrupting():
            self.copied = await anext(self.every, [])

    async def close(self) -> None:
        """End the calls of the copy that are in progress."""
        if self.every is not None:
            await self.every.aclose()


@dataclass(frozen=True, slots=True)
class _Target:
    """The target of a COPY or MOVE: a name in a directory, and the node that has the name now."""

    parent: DirectoryResource
    name: str
    path: str
    there: Resource | None


class Protocol(RequestServer):  # type: ignore[misc]  # WsgiDAV has no types
    """WSGI application that handles one request: one method of this class for each method of WebDAV."""

    def __init__(self, session: DavSession, environ: Environ) -> None:
        self._session = session
        self._locks = Locks(session, home=environ["PATH_INFO"])
        self._provider = Provider(session, self._locks)
        super().__init__(self._provider)
        environ["wsgidav.provider"] = self._provider

    def __call__(self, environ: Environ, start_response: StartResponse) -> Generator[bytes | Step, None, None]:
        """Handle a request, as WsgiDAV's RequestServer does, and yield the parts of the answer. A `Step` that is
        yielded between two parts is awaited on the event loop first. Raise DavRefused or DAVError, before the first
        part, if the request is refused.
        """
        if environ["REQUEST_METHOD"] in _WRITING:
            self._check_writable(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] in _LOOKING_AHEAD:
            names = _names(environ["PATH_INFO"])
            if len(names) > 1 and (space := self._session.person.spaces.get(names[0])) is not None:
                slots = {steps.slot(self._session, path) for path in (names[1:], names[1:-1])}
                records = [RECORD, *slots]
                self._session.look_ahead(space, names[1:], records=records)
        yield from super().__call__(environ, start_response)

    def _check_writable(self, path: str) -> None:
        names = _names(path)
        space = self._session.person.spaces.get(names[0]) if names else None
        if space is not None and not space.writable:
            raise DavRefused(HTTPStatus.FORBIDDEN, "you may only read in this space", reason="PERMISSION_DENIED")

    # ---- properties ----

    def do_PROPFIND(  # noqa: N802 - WsgiDAV's
        self, environ: Environ, start_response: StartResponse
    ) -> Iterator[bytes | Step]:
        depth = environ.setdefault("HTTP_DEPTH", "infinity")
        if depth not in {"0", "1", "infinity"}:
            raise DavRefused(HTTPStatus.BAD_REQUEST, "Depth is 0 or 1")
        if depth == "infinity":
            raise DavRefused(
                HTTPStatus.FORBIDDEN,
                "a whole tree is not listed at once: ask each directory with Depth: 1",
                condition=PRECONDITION_CODE_PropfindFiniteDepth,
            )
        found = self._existing(environ["PATH_INFO"], environ)
        self._evaluate_if_headers(found, environ)
        mode, names = _wanted(util.parse_xml_body(environ, allow_empty=True))
        start_response("207 Multi-Status", [("Content-Type", "application/xml; charset=utf-8")])
        return self._listing(found, depth, mode, names)

    def _listing(self, found: Resource, depth: str, mode: str, names: list[str] | None) -> Iterator[bytes | Step]:
        """Yield the answer to a PROPFIND of `found`, slice by slice. `depth` is "0" or "1", `mode` is WsgiDAV's kind of
        the request, and `names` are the requested properties; None if the request names none.

        After each slice comes a `Step` that waits until the rate limit admits the bytes of the stored properties in the
        slice.
        """
        space = found.space if names is None or any(not name.startswith("{DAV:}") for name in names) else None
        if space is not None:
            yield self._session.admit
        yield _MULTISTATUS + b"".join(_described([found], mode, names))
        if depth == "1" and found.is_collection:
            slices = properties.Slices()
            for page in found.members():  # type: ignore[attr-defined]
                for some in slices.cut(page):
                    nodes = [one.node.id for one in some if one.node is not None]
                    size = properties.read_ahead(self._session, space, nodes) if space is not None else 0
                    slices.learn(len(some), size)
                    yield b"".join(_described(some, mode, names))
                    if space is not None:
                        properties.forget_properties(self._session, space, nodes)
                        yield self._session.settle
        yield b"</D:multistatus>\n"
        yield self._session.settle

    def do_PROPPATCH(  # noqa: N802 - WsgiDAV's
        self, environ: Environ, start_response: StartResponse
    ) -> Iterator[bytes | Step]:
        """Set properties. All of them are written together, before the answer confirms them."""
        yield self._session.admit
        answer: Iterable[bytes] = super().do_PROPPATCH(environ, start_response)
        found = self._existing(environ["PATH_INFO"], environ)
        if (mtime_ns := environ.get("syncline.mtime_ns")) is not None and isinstance(found, File):
            content = replace(found.content, mtime_ns=mtime_ns)
            if content != found.content:
                self._session.commit_one(found.space, UpdateContent(found.node.id, found.node.version, content))
        changes = environ.get("syncline.properties", [])
        if changes and found.space is not None and found.node is not None:
            properties.change(self._session, found.space, found.node.id, changes)
        yield self._session.settle
        yield from answer

    # ---- contents ----

    def do_PUT(  # noqa: N802 - WsgiDAV's
        self, environ: Environ, start_response: StartResponse
    ) -> Iterator[bytes | Step]:
        """Store the body of the request as a file. Besides the parts of the answer, this method yields each `Step` that
        the event loop has to finish before the next one, because no worker may wait for a client that sends slowly.

        Raise DavRefused if the request is refused, and ClientGone if the body is incomplete.
        """
        if "HTTP_CONTENT_ENCODING" in environ:
            raise DavRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the file as it is, without Content-Encoding")
        if "HTTP_CONTENT_RANGE" in environ:
            raise DavRefused(HTTPStatus.BAD_REQUEST, "a file can only be replaced as a whole, without Content-Range")
        if "HTTP_OC_CHUNKED" in environ:
            raise DavRefused(HTTPStatus.NOT_IMPLEMENTED, "a file is sent as a whole, without OC-Chunked")
        mtime_ns = _mtime_ns(environ)
        path = environ["PATH_INFO"]
        parent, name = self._parent(path, environ)
        found = self._provider.get_resource_inst(path, environ)
        if found is not None and not isinstance(found, File):
            raise DavRefused(HTTPStatus.METHOD_NOT_ALLOWED, "there is a directory of that name; choose another name")
        if found is None and "HTTP_IF_MATCH" in environ:
            raise DavRefused(
                HTTPStatus.PRECONDITION_FAILED,
                "If-Match names a file that does not exist; leave the header out to create it",
            )
        self._evaluate_if_headers(found, environ)
        self._check_write_permission(found or parent, "0", environ)
        sent: Upload = environ["syncline.upload"]
        expected, checked = expected_size(sent.headers), CheckedBody(sent.headers)
        _check_size(expected, sent.length)
        stored = yield from upload(sent.body, checked.update, sent.storage, sent.loop)
        if sent.length not in {None, stored.size}:
            raise ClientGone
        _check_size(expected, stored.size)
        checked.check()
        content = Content(
            digest=stored.digest,
            size=stored.size,
            mtime_ns=mtime_ns if mtime_ns is not None else environ["syncline.now_ns"],
            manifest=stored.manifest,
            manifest_object=stored.manifest_object,
        )
        # another client may have locked the file while the body was received
        self._locks.look_again()
        self._check_write_permission(found or parent, "0", environ)
        change: Mutation
        replaces = found.node if found is not None else self._bring_back(parent, _names(path), NodeKind.FILE)
        if replaces is None:
            change = CreateNode(parent.node.id, name, NodeKind.FILE, content)
        else:
            if replaces.content is not None:
                content = replace(content, executable=replaces.content.executable)
            change = UpdateContent(replaces.id, replaces.version, content)
        try:
            self._session.commit_one(parent.space, change)
        except DavRefused as error:
            if {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & environ.keys() and error.value == HTTPStatus.CONFLICT:
                raise DavRefused(HTTPStatus.PRECONDITION_FAILED, error.text, reason=error.reason) from error
            raise
        if replaces is not None:
            saving.remember_holders(self._session, parent.space, replaces.content, replaces.id)
            saving.remember_holders(self._session, parent.space, content, replaces.id)
        headers = [("ETag", etag_of(content))]
        if mtime_ns is not None:
            headers.append(("X-OC-Mtime", "accepted"))
        yield from _done(start_response, HTTPStatus.CREATED if found is None else HTTPStatus.NO_CONTENT, headers)

    # ---- the tree ----

    def do_MKCOL(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:  # noqa: N802 - WsgiDAV's
        try:
            answer: Iterable[bytes] = super().do_MKCOL(environ, start_response)
        except DavRefused as error:
            if error.reason == "NAME_TAKEN":
                raise DavRefused(HTTPStatus.METHOD_NOT_ALLOWED, error.text, reason=error.reason) from error
            raise
        return answer

    def do_DELETE(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:  # noqa: N802 - WsgiDAV's
        """Move a node to the trash, with everything below it. Raise DavRefused if the request is refused."""
        found = self._existing(environ["PATH_INFO"], environ)
        self._check_movable(found)
        if found.is_collection and environ.setdefault("HTTP_DEPTH", "infinity") != "infinity":
            raise DavRefused(
                HTTPStatus.BAD_REQUEST, "a directory is deleted with all that is below it: Depth: infinity"
            )
        self._evaluate_if_headers(found, environ)
        parent, _ = self._parent(environ["PATH_INFO"], environ)
        self._check_write_permission(parent, "0", environ)
        self._check_write_permission(found, "infinity", environ)
        assert found.space is not None
        assert found.node is not None
        names = _names(found.path)[1:]

        def writable(other: tuple[str, ...]) -> bool:
            resource = self._provider.get_resource_inst("/" + "/".join((*_names(found.path)[:1], *other)), environ)
            try:
                self._check_write_permission(resource, "0", environ)
            except DAVError:
                return False
            return True

        if not saving.finish_save(self._session, found.space, names, writable=writable):
            # an earlier step may have changed the version of the node
            there = self._session.find(found.space, names) or found.node
            saving.delete_node(self._session, found.space, names, there)
        self._unlock(found)
        return _done(start_response, HTTPStatus.NO_CONTENT)

    def do_MOVE(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:  # noqa: N802 - WsgiDAV's
        """Move a node by one change, however many nodes are below it. Raise DavRefused if the request is refused."""
        found = self._existing(environ["PATH_INFO"], environ)
        self._check_movable(found)
        if found.is_collection and environ.setdefault("HTTP_DEPTH", "infinity") != "infinity":
            raise DavRefused(HTTPStatus.BAD_REQUEST, "a directory is moved with all that is below it: Depth: infinity")
        target = self._target(found, environ)
        above, _ = self._parent(environ["PATH_INFO"], environ)
        self._check_write_permission(above, "0", environ)
        self._check_write_permission(found, "infinity", environ)
        assert found.space is not None
        assert found.node is not None
        node = found.node
        was, now = _names(found.path)[1:], _names(target.path)[1:]
        there = (
            target.there.node
            if target.there is not None
            else self._bring_back(target.parent, _names(target.path), node.kind, written=True)
        )
        if there is not None and node.kind is there.kind is NodeKind.FILE:
            saving.replace_file(self._session, found.space, was=was, source=node, target=there)
        elif not (
            there is not None
            and node.kind is there.kind is NodeKind.DIRECTORY
            and saving.merge_directory(self._session, found.space, source=node, target=there)
        ):
            move = MoveNode(node.id, node.parent, node.name, target.parent.node.id, target.name)
            self._session.replace(found.space, there, move)
            if target.there is None:
                saving.remember_move(self._session, found.space, was=was, now=now, node=node)
        self._unlock(found)
        return _done(start_response, HTTPStatus.CREATED if target.there is None else HTTPStatus.NO_CONTENT)

    def do_COPY(  # noqa: N802 - WsgiDAV's
        self, environ: Environ, start_response: StartResponse
    ) -> Iterator[bytes | Step]:
        """Copy a node: new nodes refer to the same contents, and no bytes are transferred. The event loop copies
        everything below a directory, so that no worker is occupied during the copy. Raise DavRefused if the request is
        refused. If an error ends the copy, the copy is undone first.
        """
        found = self._existing(environ["PATH_INFO"], environ)
        self._check_movable(found)
        depth = environ.setdefault("HTTP_DEPTH", "infinity")
        if depth not in {"0", "infinity"}:
            raise DavRefused(HTTPStatus.BAD_REQUEST, "a directory is copied with Depth: 0 or infinity")
        target = self._target(found, environ)
        tree = None
        if depth == "infinity" and found.is_collection:
            tree = TreeCopy(environ["syncline.running_copy"])
            yield tree.begin
        space, node, there = found.space, found.node, target.there
        assert space is not None
        assert node is not None
        over = there.node if there is not None else None
        if there is None and isinstance(found, File):
            over = self._bring_back(target.parent, _names(target.path), NodeKind.FILE, written=True)
        if isinstance(found, File) and over is not None and over.kind is NodeKind.FILE:
            self._session.commit_one(space, UpdateContent(over.id, over.version, found.content))
            properties.copy(self._session, space, [(node.id, over.id)])
            saving.remember_holders(self._session, space, over.content, over.id)
            saving.remember_holders(self._session, space, found.content, over.id, node.id)
        else:
            create = CreateNode(target.parent.node.id, target.name, node.kind, node.content)
            request = new_request_id()
            made: Node | None = None
            try:
                made = self._session.replace(space, over, create, request=request)
                saving.remember_holders(self._session, space, node.content, made.id, node.id)
                properties.copy(self._session, space, [(node.id, made.id)])
                if tree is not None:
                    tree.every = self._session.copy_below(space, node.id, made.id, tree.running.token, request=request)
                    yield tree.advance
                    while tree.copied:
                        properties.copy(self._session, space, tree.copied)
                        yield tree.advance
            except BaseException as error:
                # A partial copy is undone: its nodes go to the trash, and the earlier state remains.
                if tree is not None:
                    self._session.wait(tree.close())
                if made is not None or _is_undecided(error):
                    token = tree.running.valid_token if tree is not None else ""
                    self._session.undo_copy(space, request, token=token)
                raise
        yield from _done(start_response, HTTPStatus.CREATED if there is None else HTTPStatus.NO_CONTENT)

    def _bring_back(
        self, parent: DirectoryResource, names: tuple[str, ...], kind: NodeKind, *, written: bool = False
    ) -> Node | None:
        """Restore and return the former node of a path with `saving.bring_back`; None if there is none to restore.
        `names` are the names of the whole path, the name of the space first; `parent` is the directory of the path.
        """
        return saving.bring_back(self._session, parent.space, parent.node.id, names[1:], kind, written=written)

    # ---- what they have in common ----

    def _existing(self, path: str, environ: Environ) -> Resource:
        found = self._provider.get_resource_inst(path, environ)
        if found is None:
            raise DavRefused(HTTPStatus.NOT_FOUND, "there is no such file or directory", reason="NO_SUCH_NODE")
        return found

    def _parent(self, path: str, environ: Environ) -> tuple[DirectoryResource, str]:
        """Return the directory of a path, and the name in it. Raise DavRefused if the path is that of a space, or if
        there is no such directory.
        """
        names = _names(path)
        if len(names) < 2:
            raise DavRefused(
                HTTPStatus.FORBIDDEN,
                "only spaces can be at this level; make one in the web app or by `syncline spaces create`",
            )
        above = self._provider.get_resource_inst("/" + "/".join(names[:-1]), environ)
        if not isinstance(above, DirectoryResource):
            raise DavRefused(HTTPStatus.CONFLICT, "the directory does not exist", reason="PARENT_NOT_FOUND")
        return above, checked_name(names[-1])

    @staticmethod
    def _check_movable(found: Resource) -> None:
        if found.space is None or len(_names(found.path)) < 2:
            raise DavRefused(HTTPStatus.FORBIDDEN, "a space as a whole cannot be deleted, moved or copied here")

    def _target(self, found: Resource, environ: Environ) -> _Target:
        """Return the valid target of a COPY or MOVE. Raise DavRefused if the Destination header is invalid, names no
        place in a space, or must not be overwritten.
        """
        if environ.setdefault("HTTP_OVERWRITE", "T") not in {"T", "F"}:
            raise DavRefused(HTTPStatus.BAD_REQUEST, "Overwrite is T or F")
        names = _destination(environ)
        path = "/" + "/".join(names)
        here = _names(found.path)
        if names[:1] != here[:1]:
            raise DavRefused(
                HTTPStatus.FORBIDDEN,
                "the server cannot move or copy between spaces: download the item, and upload it there",
            )
        if names == here:
            raise DavRefused(HTTPStatus.FORBIDDEN, "source and destination are the same; name another destination")
        if names[: len(here)] == here:
            raise DavRefused(HTTPStatus.FORBIDDEN, Verdict.CYCLE.text, reason=Verdict.CYCLE.name)
        if here[: len(names)] == names:
            raise DavRefused(
                HTTPStatus.FORBIDDEN, "a node cannot replace a directory that it is in; name another destination"
            )
        parent, name = self._parent(path, environ)
        there = self._provider.get_resource_inst(path, environ)
        self._evaluate_if_headers(found, environ)
        self._evaluate_if_headers(there, environ)
        if there is None:
            self._check_write_permission(parent, "0", environ)
        self._check_write_permission(there, "infinity", environ)
        if there is not None and environ["HTTP_OVERWRITE"] != "T":
            raise DavRefused(
                HTTPStatus.PRECONDITION_FAILED,
                "there is something of that name already; choose another name, or allow Overwrite",
                reason="NAME_TAKEN",
            )
        return _Target(parent, name, path, there)

    def _unlock(self, gone: Resource) -> None:
        """Remove the locks on the address of a resource that is deleted or moved."""
        self._locks.remove_all_locks_from_url(gone.get_ref_url(), recursive=True)  # type: ignore[attr-defined]


def _names(path: str) -> tuple[str, ...]:
    try:
        return parts_of(path)
    except InvalidArgument as error:
        raise DavRefused(HTTPStatus.BAD_REQUEST, str(error), reason=error.reason) from None


def segments(raw: str, *, prefix: str = "") -> str:
    """Return the path of a resource below the mount point of WebDAV, decoded: `/Project/a b` for the URL path `raw`
    `/dav/Project/a%20b`. Raise DavRefused if `raw` is not below the mount point, or a name in it is invalid.

    `prefix` is the prefix that a proxy has removed from request paths.
    """
    try:
        names = [unquote(part, errors="strict") for part in raw.split("/")]
    except UnicodeDecodeError:
        raise DavRefused(HTTPStatus.BAD_REQUEST, "the path is not valid UTF-8") from None
    for mount in dict.fromkeys((prefix + MOUNT, MOUNT)):
        above = mount.split("/")
        if names[: len(above)] == above:
            names = names[len(above) :]
            break
    else:
        raise DavRefused(HTTPStatus.BAD_GATEWAY, f"the destination is not below {prefix}{MOUNT}/")
    if any("/" in name for name in names):
        raise DavRefused(HTTPStatus.BAD_REQUEST, "a name cannot contain '/'", reason="NAME_INVALID")
    return "/" + "/".join(names) if names else "/"


def _destination(environ: Environ) -> tuple[str, ...]:
    """Return the names of the path in the Destination header. Raise DavRefused if the header is missing, invalid, or
    names another server.
    """
    raw, here = environ.get("HTTP_DESTINATION"), environ["syncline.here"]
    if raw is None:
        raise DavRefused(HTTPStatus.BAD_REQUEST, "the header Destination is missing")
    try:
        parts = urlsplit(raw.strip())
        ours = here.is_ours(raw.strip()) if parts.netloc else not parts.scheme
    except ValueError:
        ours, parts = False, urlsplit("")
    if not parts.path.startswith("/"):
        raise DavRefused(HTTPStatus.BAD_REQUEST, "Destination is an address, or a path that begins with '/'")
    if not ours:
        raise DavRefused(HTTPStatus.BAD_GATEWAY, "the destination is on another server")
    return _names(segments(parts.path, prefix=here.prefix))


def _is_undecided(error: BaseException) -> bool:
    """Return `may_have_taken_effect` for the error of a call that a worker thread has made, which is a DavRefused if
    the call was refused.
    """
    if isinstance(error, DavRefused):
        # The refusal of a mutation has no cause; the failure of a call has the error of the service as its cause.
        return error.__cause__ is not None and may_have_taken_effect(error.__cause__)
    return may_have_taken_effect(error)


def _wanted(request: Element | None) -> tuple[str, list[str] | None]:
    """Return what a PROPFIND asks for: its kind in WsgiDAV's terms, and the names of the requested properties; None if
    the request names none. `request` is the parsed body, None without one. Raise DavRefused for an invalid request, and
    for more than _MAX_NAMED_PROPERTIES properties.
    """
    if request is None:
        return "allprop", None
    asked = [] if request.tag != "{DAV:}propfind" else [child for child in request if child.tag != "{DAV:}include"]
    if len(asked) != 1:
        raise DavRefused(HTTPStatus.BAD_REQUEST, "a propfind has one of prop, allprop and propname")
    match asked[0].tag:
        case "{DAV:}allprop":
            return "allprop", None
        case "{DAV:}propname":
            return "name", None
        case "{DAV:}prop":
            names = list(dict.fromkeys(child.tag for child in asked[0]))
            if len(names) > _MAX_NAMED_PROPERTIES:
                raise DavRefused(
                    HTTPStatus.BAD_REQUEST,
                    f"at most {_MAX_NAMED_PROPERTIES} properties are returned at once; ask for fewer",
                )
            return "named", names
    raise DavRefused(HTTPStatus.BAD_REQUEST, "a propfind has one of prop, allprop and propname")


def _described(some: Iterable[Resource], mode: str, names: list[str] | None) -> Iterator[bytes]:
    """Yield, for each resource, the XML element of a multistatus answer that has its properties. `mode` and `names` are
    as `_wanted` returns them.
    """
    for one in some:
        gathered = etree.Element("{DAV:}multistatus")
        values = one.get_properties(mode, name_list=names)  # type: ignore[attr-defined]
        stored = [value for _, value in values if isinstance(value, StoredProperty)]
        live = [(name, value) for name, value in values if not isinstance(value, StoredProperty)]
        util.add_property_response(gathered, one.get_href(), [*live, (_MARK, None)] if stored else live)
        told: bytes = etree.tostring(gathered[0], encoding="utf-8", xml_declaration=False)
        yield told.replace(_MARKED, "".join(stored).encode(), 1) if stored else told


def _mtime_ns(environ: Environ) -> int | None:
    """Return the modification time in the header X-OC-Mtime of ownCloud clients, in nanoseconds since 1970; None if
    there is none. Raise DavRefused for a value that is no number of seconds.
    """
    raw = environ.get("HTTP_X_OC_MTIME")
    if raw is None:
        return None
    if not _MTIME.fullmatch(raw.strip()):
        raise DavRefused(HTTPStatus.BAD_REQUEST, "X-OC-Mtime is in seconds since 1970")
    whole, _, fraction = raw.strip().lstrip("-").partition(".")
    nanoseconds = int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    return -nanoseconds if raw.strip().startswith("-") else nanoseconds


def _check_size(expected: int | None, size: int | None) -> None:
    if expected is not None and size is not None and expected != size:
        raise DavRefused(
            HTTPStatus.BAD_REQUEST,
            f"the file has {size} bytes and not {expected}, as the headers say",
            reason="SIZE_MISMATCH",
        )


def _done(
    start_response: StartResponse, status: HTTPStatus, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Length", "0"), *headers])
    return [b""]
