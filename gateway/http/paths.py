"""A path within a space as the end of an address: `{path:any_path}` in a route."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor


class _AnyPath(PathConvertor):
    """A path of which any character can be part, a line break too."""

    regex = "(?s:.*)"


register_url_convertor("any_path", _AnyPath())
