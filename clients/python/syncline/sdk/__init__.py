"""The services as a client sees them: typed, synchronous, with errors of `syncline.model.errors` only.

    from syncline.sdk import Session, Space, default_home

    with Session.open(default_home()) as session:
        ...

What a program begins with can be imported from here. A module is loaded when a name of it is asked for, so that a
command that needs little of the SDK starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from syncline.sdk.account import Accounts, sign_in, sign_up
    from syncline.sdk.home import default_home
    from syncline.sdk.session import Session
    from syncline.sdk.space import Space

__all__ = ["Accounts", "Session", "Space", "default_home", "sign_in", "sign_up"]

_MODULES: Final = {
    "Accounts": "account",
    "Session": "session",
    "Space": "space",
    "default_home": "home",
    "sign_in": "account",
    "sign_up": "account",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
