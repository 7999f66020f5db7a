"""The passwords of people in tests and benchmarks. Auth refuses passwords that are easily guessed."""

from __future__ import annotations

from typing import Final

STRONG: Final = "ochre lantern vivid tundra"
OTHER_STRONG: Final = "brisk walnut copper hymn"
WEAK: Final = "password1"
