"""A service does not choose where something is written on this device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from syncline.metadata.v1 import journal_pb2, metadata_pb2, metadata_pb2_grpc
from syncline.model.chunking import digest_of
from tests.clients.sdk.conftest import enter
from tests.clients.sdk.servicers import running

TARGET = b"what the service chose"


class Hostile(metadata_pb2_grpc.MetadataServiceServicer):
    """Gives any node that is asked for another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def GetNode(  # noqa: N802 - the contract's name
        self, request: metadata_pb2.GetNodeRequest, context: grpc.ServicerContext
    ) -> metadata_pb2.GetNodeResponse:
        content = journal_pb2.Content(digest=digest_of(TARGET), size=len(TARGET), target=TARGET.decode())
        node = journal_pb2.Node(
            id=b"n" * 16, parent=bytes(16), name=self.name, kind=journal_pb2.NODE_KIND_SYMLINK, version=1
        )
        node.content.CopyFrom(content)
        return metadata_pb2.GetNodeResponse(node=node, path=request.path)


@pytest.mark.parametrize("name", ["../outside", "{outside}", "sub/../../outside", "..", "", "elsewhere"])
def test_a_download_is_never_written_where_the_service_says(tmp_path: Path, name: str) -> None:
    outside, inside, home = tmp_path / "outside", tmp_path / "inside", tmp_path / "home"
    inside.mkdir()
    servicer = Hostile(name.format(outside=outside))  # type: ignore[abstract]  # one method is enough
    with running(metadata=servicer) as services:
        enter(services, home).close()
        command = [sys.executable, "-m", "syncline.cli", "get", "notes.txt", str(inside)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, "SYNCLINE_HOME": str(home)}
        )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "inside"]
    assert [path.name for path in inside.iterdir()] == ["notes.txt"]
