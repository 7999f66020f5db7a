"""Commands on a space without a synced folder."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from syncline.cli.output import json_option, moment, signed_in, size
from syncline.cli.scratch import scratch
from syncline.cli.space_paths import LOCAL, SpacePath, accepted_node, checked_name, file_at, place, place_in
from syncline.cli.terminal import complain, print_json, print_table, say
from syncline.model.accounts import Access
from syncline.model.errors import InvalidArgument, NoSuchNode, SynclineError
from syncline.model.identifiers import new_request_id
from syncline.model.tree import Content, CreateNode, DeleteNode, MoveNode, Mutation, Node, NodeKind, UpdateContent
from syncline.sdk.pages import gathered


@click.command()
@click.argument("where", metavar="[SPACE:]PATH", default="")
@click.option("-l", "--long", is_flag=True, help="Also print kind, size, version and time.")
@json_option
def ls(where: str, long: bool, as_json: bool) -> None:
    """List a directory of a space, or show one file. Without PATH, the root of your personal space.

    The text before the first ':' is the space, by name or id; without it, your personal space is meant.

    \b
    Examples:
      syncline ls
      syncline ls -l Project:reports
    """
    with place(where) as found:
        node = found.node()
        nodes = [node] if node is not None and node.kind is not NodeKind.DIRECTORY else _children(found, node)
    if as_json:
        print_json({"nodes": [node_json(node) for node in nodes]})
    elif long:
        print_table(
            (
                node.kind.name.lower(),
                size(node.content.size) if node.content else "",
                f"version {node.version}" if node.version else "",
                moment(node.committed_at_ms),
                _shown(node),
            )
            for node in nodes
        )
    else:
        for node in nodes:
            say(_shown(node))


def _children(where: SpacePath, node: Node | None) -> list[Node]:
    children = where.space.list_nodes(node.id) if node else where.space.list_nodes()
    return gathered(children, "the listing of this directory", "name a file or a directory in it, or sync the space")


def _shown(node: Node) -> str:
    if node.kind is NodeKind.SYMLINK and node.content:
        return f"{node.name} -> {node.content.target}"
    return f"{node.name}/" if node.kind is NodeKind.DIRECTORY else node.name


def node_json(node: Node) -> dict[str, Any]:
    """Return a node in the form of the JSON output."""
    shown: dict[str, Any] = {
        "id": node.id.hex(),
        "name": node.name,
        "kind": node.kind.name.lower(),
        "version": node.version,
        "committed_at_ms": node.committed_at_ms,
    }
    if node.content is not None:
        shown |= {"size": node.content.size, "sha256": node.content.digest.hex(), "mtime_ns": node.content.mtime_ns}
        if node.kind is NodeKind.SYMLINK:
            shown["target"] = node.content.target
    return shown


@click.command()
@click.argument("where", metavar="[SPACE:]PATH")
@click.argument("local", metavar="[LOCAL]", default=".", type=LOCAL)
@click.option("-f", "--force", is_flag=True, help="Replace LOCAL if it exists.")
def get(where: str, local: Path, force: bool) -> None:
    """Download a file to LOCAL: a file, a directory, or '-' for standard output. By default into this directory.

    \b
    Examples:
      syncline get notes.txt
      syncline get Project:reports/2026.pdf ~/Downloads
      syncline get Project:data.csv - | head
    """
    with place(where) as found:
        node = file_at(found)
        if str(local) == "-":
            with scratch(Path(tempfile.gettempdir())) as directory:
                _print_file(_downloaded(found, node, directory))
            return
        target = local / found.name if local.is_dir() else local  # the name is the user's, never the service's
        if os.path.lexists(target) and not force:
            raise InvalidArgument(f"{target} exists; --force replaces it")
        with scratch(target.absolute().parent) as directory:
            temporary = _downloaded(found, node, directory)
            _dress(temporary, target)
            if force:
                temporary.replace(target)
            else:
                _move_new(temporary, target)
    say(f"{target} ({size(node.content.size if node.content else 0)})", err=True)


def _dress(temporary: Path, target: Path) -> None:
    """Copy the attributes of the file at `target` to `temporary`, a downloaded file that will replace it. If there is
    no such file, give `temporary` the attributes that files inherit in the directory of `target`. Then flush
    `temporary` to the disk. A symlink is left as it is.
    """
    from syncline.transfer.attributes import Inheritance, carry_over, inherit  # noqa: PLC0415 - `ls` does without

    if temporary.is_symlink():
        return
    with temporary.open("rb") as new:
        mode = os.fstat(new.fileno()).st_mode
        if target.is_file() and not target.is_symlink():
            with target.open("rb") as old:
                links = os.fstat(old.fileno()).st_nlink
                lost = list(carry_over(old.fileno(), new.fileno(), executable=bool(mode & 0o100)))
            lost += ["a hard link"] if links > 1 else []
        else:
            directory = os.open(target.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                lost = list(inherit(new.fileno(), Inheritance.of(directory), mode=mode & 0o777))
            finally:
                os.close(directory)
        os.fsync(new.fileno())
    for what in lost:
        complain(f"{target}: {what} could not be kept")


def _print_file(path: Path) -> None:
    if path.is_symlink():
        target = str(path.readlink())
        if sys.stdout.isatty():
            say(target)
        else:
            sys.stdout.buffer.write(os.fsencode(target) + b"\n")
        return
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _move_new(temporary: Path, target: Path) -> None:
    """Rename the downloaded file `temporary` to `target`, but never over a file that another program has created since
    the command began. Raise InvalidArgument if such a file exists.
    """
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        raise InvalidArgument(f"{target} exists; --force replaces it") from None
    except OSError:  # the filesystem does not support hard links
        if os.path.lexists(target):
            raise InvalidArgument(f"{target} exists; --force replaces it") from None
        temporary.rename(target)


def _downloaded(where: SpacePath, node: Node, directory: Path) -> Path:
    """Download the content of `node` to a temporary file in `directory`, with its time and mode, and return the path of
    the file. `where` names the node in the texts of errors. Raise InvalidArgument if this system cannot store the
    target of a symlink, and SynclineError if the download fails.
    """
    from syncline.cli.progress import progress  # noqa: PLC0415 - `ls` does without a transfer
    from syncline.transfer.download import Downloader  # noqa: PLC0415
    from syncline.transfer.jobs import DownloadJob, Failed  # noqa: PLC0415
    from syncline.transfer.objects import open_objects  # noqa: PLC0415

    content = node.content
    assert content is not None, "a file has a content"
    temporary = directory / "content"
    if node.kind is NodeKind.SYMLINK:
        try:
            temporary.symlink_to(content.target)
        except ValueError:
            raise InvalidArgument(
                f"{where.text}: this system cannot store the target of the link; get it on another device"
            ) from None
        return temporary
    with progress() as shown:
        shown.expect("downloading", files=1, size=content.size)
        downloader = Downloader(open_objects(where.space, Access.READ), progress=shown)
        mode = (0o777 if content.executable else 0o666) & ~_umask()
        for result in downloader.download([DownloadJob(node.id, content, temporary, mode)]):
            if isinstance(result, Failed):
                raise SynclineError(f"{where.text} {result.reason}")
    return temporary


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


@click.command()
@click.argument("local", metavar="LOCAL", type=LOCAL)
@click.argument("where", metavar="[SPACE:]PATH")
def put(local: Path, where: str) -> None:
    """Upload the file LOCAL to PATH: a new file, a new version of one, or into a directory.

    \b
    Examples:
      syncline put report.pdf Project:reports
      syncline put notes.txt notes/2026.txt
    """
    with place(where) as found:
        if local.is_dir():
            raise InvalidArgument(f"{local} is a directory; `syncline sync` keeps directories")
        target, present = _target(found, local.name)
        parent = target.parent.directory()
        content = _link(local) if local.is_symlink() else _uploaded(local, target)
        kind = NodeKind.SYMLINK if local.is_symlink() else NodeKind.FILE
        mutation: Mutation
        if present is None:
            mutation = CreateNode(parent, checked_name(target.name), kind, content)
        elif present.kind is not kind:
            raise InvalidArgument(f"{target.text} is a {present.kind.name.lower()}; remove it first")
        elif present.content is not None and present.content.digest == content.digest:
            say(f"{target.text} holds that already (version {present.version})", err=True)
            return
        else:
            mutation = UpdateContent(present.id, present.version, content)
        node = _committed(target, mutation)
    say(f"{target.text} (version {node.version}, {size(content.size)})", err=True)


def _target(where: SpacePath, name: str) -> tuple[SpacePath, Node | None]:
    """Return the destination path of a file named `name` that is put at `where` (into it, if that is a directory), and
    the node that is at the path now, None if there is none.
    """
    try:
        node = where.node()
    except NoSuchNode:
        if where.text.endswith("/"):
            raise
        return where, None
    if node is not None and node.kind is not NodeKind.DIRECTORY:
        return where, node
    below = where.below(checked_name(name))
    try:
        return below, below.node()
    except NoSuchNode:
        return below, None


def _link(local: Path) -> Content:
    from syncline.model.chunking import digest_of  # noqa: PLC0415

    target = str(local.readlink())
    try:
        raw = target.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{local}: the target of the link is not valid UTF-8; make the link anew") from None
    return Content(digest_of(raw), len(raw), local.lstat().st_mtime_ns, target=target)


def _uploaded(local: Path, where: SpacePath) -> Content:
    from syncline.cli.progress import progress  # noqa: PLC0415 - `ls` does without a transfer
    from syncline.transfer.jobs import Failed, UploadJob  # noqa: PLC0415
    from syncline.transfer.objects import open_objects  # noqa: PLC0415
    from syncline.transfer.upload import Uploader  # noqa: PLC0415

    with progress() as shown:
        shown.expect("uploading", files=1, size=local.stat().st_size)
        uploader = Uploader(where.space, open_objects(where.space, Access.WRITE), progress=shown)
        (result,) = uploader.upload([UploadJob(None, local)])
    if isinstance(result, Failed):
        raise SynclineError(f"{local} {result.reason}")
    return result.content


@click.command()
@click.argument("where", metavar="[SPACE:]PATH")
@click.option("-p", "--parents", is_flag=True, help="Also make missing directories above; no error if all exist.")
def mkdir(where: str, parents: bool) -> None:
    """Make a directory.

    \b
    Examples:
      syncline mkdir Project:reports
      syncline mkdir -p notes/2026/autumn
    """
    with place(where) as found:
        if parents:
            _make_directories(found)
        else:
            name = checked_name(found.name)
            _committed(found, CreateNode(found.parent.directory(), name, NodeKind.DIRECTORY))


def _make_directories(where: SpacePath) -> None:
    try:
        where.directory()
    except NoSuchNode:
        _make_directories(where.parent)
        parent = where.parent.directory()
        _committed(where, CreateNode(parent, checked_name(where.name), NodeKind.DIRECTORY))


@click.command()
@click.argument("source", metavar="[SPACE:]FROM")
@click.argument("target", metavar="[SPACE:]TO")
def mv(source: str, target: str) -> None:
    """Move or rename a file or directory within its space; into TO if that is a directory.

    \b
    Examples:
      syncline mv draft.txt final.txt
      syncline mv Project:draft.txt Project:reports/
    """
    with signed_in() as session:
        before, after = place_in(session, source), place_in(session, target)
        if before.space.id != after.space.id:
            raise InvalidArgument("a move cannot lead into another space; copy with `syncline get` and `syncline put`")
        node = before.node()
        if node is None:
            raise InvalidArgument("the root of a space cannot be moved; move what is in it")
        after, present = _target(after, node.name)
        if present is not None and present.id != node.id:
            raise InvalidArgument(f"{after.text} exists; choose another name or remove it first")
        mutation = MoveNode(node.id, node.parent, node.name, after.parent.directory(), checked_name(after.name))
        _committed(after, mutation)


@click.command()
@click.argument("where", metavar="[SPACE:]PATH")
@click.option("-r", "--recursive", is_flag=True, help="Also remove a directory, with everything in it.")
def rm(where: str, recursive: bool) -> None:
    """Put a file or directory into the trash, from where `syncline trash restore` brings it back.

    \b
    Examples:
      syncline rm notes.txt
      syncline rm -r Project:old
    """
    with place(where) as found:
        node = found.node()
        if node is None:
            raise InvalidArgument("the root of a space cannot be removed; remove what is in it")
        if node.kind is NodeKind.DIRECTORY and not recursive:
            raise InvalidArgument(f"{where} is a directory; -r removes it with all that is in it")
        _committed(found, DeleteNode(node.id, node.version))


def _committed(where: SpacePath, mutation: Mutation) -> Node:
    (result,) = where.space.commit([mutation], new_request_id()).results
    return accepted_node(result, where.text)


COMMANDS = [ls, get, put, mkdir, mv, rm]
