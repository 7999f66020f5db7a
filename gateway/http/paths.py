"""Path converter for a path within a space at the end of an address: `{path:any_path}` in a route."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor


class _AnyPath(PathConvertor):
    """A path that may contain any character, including line breaks."""

    regex = "(?s:.*)"


register_url_convertor("any_path", _AnyPath())
