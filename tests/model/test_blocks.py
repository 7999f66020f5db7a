"""Manifests: the columns say what the references say."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.blocks import (
    DIGEST_BYTES,
    MAX_BLOCK_BYTES,
    BlockRef,
    Digest,
    MalformedManifest,
    Manifest,
    object_key,
)
from syncline.wire.tree import manifest_from_wire, manifest_to_wire

digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES).map(Digest)
refs = st.lists(
    st.builds(BlockRef, digests, st.integers(1, MAX_BLOCK_BYTES), digests, st.integers(0, 2**32 - 1))
    | digests.map(lambda digest: BlockRef(digest, 1, digest, 0)),
    max_size=20,
)


@given(refs)
def test_a_manifest_is_its_references_and_survives_the_wire(refs: list[BlockRef]) -> None:
    manifest = Manifest.of(refs)
    manifest.check()
    assert list(manifest.refs()) == refs
    assert manifest.size == sum(ref.length for ref in refs)
    assert set(manifest.object_digests()) == {ref.object for ref in refs}
    assert manifest_from_wire(manifest_to_wire(manifest)) == manifest


A = hashlib.sha256(b"a").digest()


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(A, ()),
        Manifest(b"", (1,)),
        Manifest(A[:-1], (1,)),
        Manifest(A, (0,)),
        Manifest(A, (MAX_BLOCK_BYTES + 1,)),
        Manifest(A, (1,), b"", (0,), (0,)),
        Manifest(A, (1,), A[:-1], (0,), (0,)),
        Manifest(A, (1,), A, (1,), (0,)),
        Manifest(A, (1,), A, (0, 0), (0,)),
        Manifest(A, (1,), A, (0,), ()),
    ],
)
def test_columns_that_do_not_fit_are_refused(manifest: Manifest) -> None:
    with pytest.raises(MalformedManifest):
        manifest.check()


def test_keys() -> None:
    assert object_key("s" * 26, A) == f"spaces/{'s' * 26}/objects/{A.hex()}"
