"""Labels: the names that people give to devices and spaces."""

from __future__ import annotations

from syncline.model.errors import InvalidArgument
from syncline.model.limits import MAX_LABEL_CHARACTERS


def check_label(text: str, *, what: str) -> str:
    """Return `text` without spaces at its ends. Raise InvalidArgument if it is empty, too long or not printable in one
    line; `what` names the label in the text of the error.
    """
    label = text.strip()
    if not 1 <= len(label) <= MAX_LABEL_CHARACTERS or not label.isprintable():
        raise InvalidArgument(f"{what} has 1 to {MAX_LABEL_CHARACTERS} printable characters")
    return label
