"""Memory that is used again, and never while somebody looks at it."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from gateway.storage.segments import SEGMENT_BYTES, Segments


def test_a_segment_is_used_again_when_nobody_sees_it():
    segments = Segments(4 * SEGMENT_BYTES)
    first = segments.take()
    first[:3] = b"abc"
    assert len(first) == SEGMENT_BYTES
    del first
    assert bytes(segments.take()[:3]) == b"abc"


def test_a_part_of_a_part_is_enough_to_keep_it():
    segments = Segments(4 * SEGMENT_BYTES)
    seen = segments.take()[100:200][10:20]
    seen[:] = b"x" * 10
    for _ in range(8):
        segments.take()[:] = bytes(SEGMENT_BYTES)
    assert bytes(seen) == b"x" * 10


def test_what_is_taken_beyond_what_is_kept_is_let_go():
    segments = Segments(2 * SEGMENT_BYTES)
    taken = [segments.take() for _ in range(5)]
    for number, segment in enumerate(taken):
        segment[:] = bytes([number]) * SEGMENT_BYTES
    assert [segment[SEGMENT_BYTES - 1] for segment in taken] == list(range(5))
    del taken, segment
    gc.collect()
    assert sorted({segments.take()[0] for _ in range(6)}) == [0, 1]


@given(st.lists(st.integers(0, 9), max_size=60))
def test_whoever_holds_a_segment_is_the_only_one(turns):
    segments = Segments(4 * SEGMENT_BYTES)
    held: dict[int, tuple[memoryview, int]] = {}
    for stamp, turn in enumerate(turns):
        if turn in held:
            segment, before = held.pop(turn)
            assert segment[0] == before
        else:
            segment = segments.take()
            segment[0] = stamp % 256
            held[turn] = segment, stamp % 256
        del segment
