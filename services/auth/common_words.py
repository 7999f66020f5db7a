"""The common words that zxcvbn knows, in a fifteenth of the memory.

The library keeps 94,000 words as keys of dictionaries, which take 14 MB in each process. The hashes of the words are
enough to look one up: of 64 bits with a key of the process, they do not coincide.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from typing_extensions import override
from zxcvbn.frequency_lists import FREQUENCY_LISTS
from zxcvbn.matching import RANKED_DICTIONARIES

_HASH_MASK: Final = (1 << sys.hash_info.width) - 1


class Ranks(Mapping[str, int]):
    """The ranks of the words of a list, from 1 for the most common one. A word can be looked up; the words themselves
    are not kept, so that nothing can be listed.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """`words` are distinct, the most common one first."""
        ranked = sorted((hash(word) & _HASH_MASK, rank) for rank, word in enumerate(words, 1))
        self._hashes = array("Q", (hashed for hashed, _ in ranked))
        self._ranks = array("I", (rank for _, rank in ranked))

    @override
    def __contains__(self, word: object) -> bool:
        hashed = hash(word) & _HASH_MASK
        at = bisect_left(self._hashes, hashed)
        return at < len(self._hashes) and self._hashes[at] == hashed

    @override
    def __getitem__(self, word: str) -> int:
        hashed = hash(word) & _HASH_MASK
        at = bisect_left(self._hashes, hashed)
        if at == len(self._hashes) or self._hashes[at] != hashed:
            raise KeyError(word)
        return self._ranks[at]

    @override
    def __len__(self) -> int:
        return len(self._hashes)

    @override
    def __iter__(self) -> Iterator[str]:
        raise TypeError("the words are not kept")


def condense() -> None:
    """Replace the dictionaries of the library by Ranks. The library looks words up in them and does nothing else. Later
    calls change nothing.
    """
    for name, words in FREQUENCY_LISTS.items():
        RANKED_DICTIONARIES[name] = Ranks(words)  # type: ignore[assignment] # a mapping is enough
    FREQUENCY_LISTS.clear()
