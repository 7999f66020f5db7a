"""The golden vectors of manifests, identifiers and names; those of cuts and packs are tested with what makes these."""

from __future__ import annotations

from typing import Any

import pytest

from syncline.model.blocks import MAX_INLINE_BLOCKS, NO_DIGEST, Manifest, object_key
from syncline.model.chunking import digest_of
from syncline.model.identifiers import ROOT, RequestId, SpaceId, created_node_id
from syncline.model.names import MAX_NAME_BYTES, name_problem, normalize
from syncline.wire.tree import manifest_to_wire
from tests import vectors

MANIFESTS = vectors.load("manifests")
IDENTIFIERS = vectors.load("identifiers")
NAMES = vectors.load("names")


@pytest.mark.parametrize("name", vectors.MAKERS)
def test_the_files_are_what_the_script_makes(name: str) -> None:
    assert (vectors.DIRECTORY / f"{name}.json").read_text() == vectors.made(name)


@pytest.mark.parametrize("case", MANIFESTS["cases"], ids=lambda case: case["name"])
def test_manifests(case: dict[str, Any]) -> None:
    wire = manifest_to_wire(Manifest.of(vectors.refs_of(case))).SerializeToString(deterministic=True)
    assert (len(wire), digest_of(wire).hex()) == (case["size"], case["sha256"])
    assert wire.hex() == case.get("bytes", wire.hex())


def test_a_manifest_of_few_blocks_is_not_stored_apart() -> None:
    assert MANIFESTS["inline_blocks"] == MAX_INLINE_BLOCKS


def test_identifiers() -> None:
    for node in IDENTIFIERS["nodes"]:
        request = RequestId(bytes.fromhex(node["request_id"]))
        assert created_node_id(SpaceId(node["space_id"]), request, node["index"]).hex() == node["node_id"]
    assert ROOT.hex() == IDENTIFIERS["root"]
    for key in IDENTIFIERS["keys"]:
        assert object_key(key["space_id"], digest_of(vectors.content(key["content"]))) == key["key"]
    for link in IDENTIFIERS["symlinks"]:
        assert digest_of(link["target"].encode()).hex() == link["digest"]
    assert NO_DIGEST.hex() == IDENTIFIERS["directory_digest"]


def test_names() -> None:
    assert NAMES["name_bytes"] == MAX_NAME_BYTES
    for case in NAMES["cases"]:
        name, nfc = case["name"], case["nfc"]
        assert normalize(name) == nfc
        assert (name_problem(nfc) is None) == case["valid"], name
        assert name == nfc or name_problem(name), "what is not in normal form is refused"
