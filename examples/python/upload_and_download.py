"""Upload a file into your personal space, or download one, by the SDK.

syncline login --endpoint https://files.example.com --email me@example.com     # once for each device
python upload_and_download.py up report.pdf report.pdf
python upload_and_download.py down report.pdf /tmp/report.pdf
"""

from __future__ import annotations

import sys
from pathlib import Path

from syncline.model.accounts import Access
from syncline.model.errors import NoSuchNode, SynclineError
from syncline.model.identifiers import ROOT, SpaceId, new_request_id
from syncline.model.printable import harmless
from syncline.model.tree import CreateNode, Mutation, NodeKind, UpdateContent
from syncline.model.verdicts import Verdict
from syncline.sdk import Session, Space, default_home
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import DownloadJob, Failed, UploadJob
from syncline.transfer.objects import open_objects
from syncline.transfer.upload import Uploader


def upload(space: Space, local: Path, path: str) -> int:
    """Make `local` the newest version of the file at `path`, whose directory exists. Return the number of the
    version.
    """
    # The bytes go to S3 first, where the service proves them; a commit then refers to the proven objects.
    (result,) = Uploader(space, open_objects(space, Access.WRITE)).upload([UploadJob(path, local)])
    if isinstance(result, Failed):
        raise SynclineError(f"{local}: {result.reason}")
    try:
        present = space.get_node(path).node
    except NoSuchNode:
        directory, _, name = path.rpartition("/")
        parent = space.get_node(directory).node.id if directory else ROOT
        mutation: Mutation = CreateNode(parent, name, NodeKind.FILE, result.content)
    else:
        mutation = UpdateContent(present.id, present.version, result.content)
    # a commit that is repeated with the same request id is carried out once
    (outcome,) = space.commit([mutation], new_request_id()).results
    if outcome.verdict is not Verdict.ACCEPTED or outcome.node is None:
        raise SynclineError(f"{path} was not stored: {outcome.verdict.name}")
    return outcome.node.version


def download(space: Space, path: str, local: Path) -> int:
    """Write the newest version of the file at `path` to `local`. Return the number of bytes."""
    node = space.get_node(path).node
    if node.kind is not NodeKind.FILE or node.content is None:
        raise SynclineError(f"{path} is no file")
    beside = local.with_name(f"{local.name}.part")
    job = DownloadJob(path, node.content, beside, mode=0o644)
    (result,) = Downloader(open_objects(space, Access.READ)).download([job])
    if isinstance(result, Failed):
        raise SynclineError(f"{path}: {result.reason}")
    beside.replace(local)  # every byte has been verified before
    return node.content.size


def main() -> None:
    """Run the command in the arguments."""
    with Session.open(default_home()) as session:
        space = Space(session, SpaceId(session.account.personal_space))
        match sys.argv[1:]:
            case ["up", local, path]:
                print(f"{path} is at version {upload(space, Path(local), path)}")
            case ["down", path, local]:
                print(f"{local} has {download(space, path, Path(local))} bytes")
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except SynclineError as error:
        sys.exit(harmless(f"{error.reason}: {error}"))
