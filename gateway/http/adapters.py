"""One adapter of pydantic for equal fields of operations.

FastAPI makes an adapter, with a validator and a serialiser, for each parameter, body and answer of each operation. Two
thirds of them are equal to another one: the same space, page or message. They are shared, which saves memory that every
process of the gateway holds.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi._compat import v2
from pydantic import ConfigDict, TypeAdapter

_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {}


def shared_adapter(kind: Any, *, config: ConfigDict | None = None) -> TypeAdapter[Any]:
    """Return the adapter of a type, which is made by the first call for an equal one. The representation of a type has
    all that its adapter depends on: the type itself, its bounds, its default and its description.
    """
    name = f"{kind!r} {config!r}"
    if name not in _ADAPTERS:
        _ADAPTERS[name] = TypeAdapter(kind, config=config)
    return _ADAPTERS[name]


v2.TypeAdapter = shared_adapter  # type: ignore[attr-defined,assignment] # the module that makes them
