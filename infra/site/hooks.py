"""MkDocs hooks: generated pages, and links that lead out of docs/.

A document of the repository links to files by their paths in it. In the site, a link to a document leads to its page, a
link to a source file to a page that shows it, and a link to a folder to a list of its files.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from infra.site import protos, rest

ROOT: Final = Path(__file__).parents[2]
LINK: Final = re.compile(r"(\[[^\]]*\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
PAGES: Final[Mapping[str, str]] = {"README.md": "index.md", "protos": "reference/protos.md"}
"""The documents from outside of docs/ whose path in the site differs from their path in the repository: the path in the
site, by the path in the repository.
"""
_LANGUAGES: Final = {".js": "js", ".json": "json", ".proto": "proto", ".py": "python", ".ts": "ts", ".yaml": "yaml"}

_origin: dict[str, str] = {}
"""The path in the repository of the source of each page, by the page's address in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add to `files` the pages that are not in docs/, and return it: references, documents of other folders, and all
    files that a document links to. MkDocs calls this function before it reads the pages.
    """
    _origin.clear()
    made = {
        "reference/protos.md": protos.protos_page(ROOT / "protos"),
        "reference/rest.md": rest.rest_page(rest.openapi_document()),
    }
    for address, content in made.items():
        files.append(File.generated(config, address, content=content))
    tracked = set(_tracked())
    # Each added document may add pages by its own links.
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    waiting = [path for path in texts if path.removeprefix("docs/") not in made] + ["README.md"]
    while waiting:
        path = waiting.pop()
        address = address_of(path)
        if address in _origin or address in made:
            continue
        _origin[address] = path
        if not path.startswith("docs/") or (ROOT / path).is_dir():
            files.append(File.generated(config, address, content=_content(path, tracked)))
        if path.endswith(".md"):
            text = texts[path] if path in texts else (ROOT / path).read_text()
            waiting.extend(linked for linked in _links(path, text) if linked in tracked or (ROOT / linked).is_dir())
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs names them
    """Return the document `markdown` of a page, with each link to a file of the repository replaced by a link to the
    page of that file. MkDocs calls this function for each page.
    """
    here = page.file.src_uri
    path = _origin.get(here, "")
    if not path.endswith(".md"):
        return markdown

    def led(found: re.Match[str]) -> str:
        target = address_of(_resolved(path, found[2]))
        return f"{found[1]}{posixpath.relpath(target, posixpath.dirname(here) or '.')}{found[3] or ''})"

    return LINK.sub(led, markdown)


def address_of(path: str) -> str:
    """Return the address in the site of a file or folder of the repository."""
    if path in PAGES:
        return PAGES[path]
    if (ROOT / path).is_dir():
        if (ROOT / path / "README.md").exists():
            return address_of(f"{path}/README.md")
        return f"{path}/index.md".removeprefix("docs/")
    if path.endswith(".md"):
        return path.removeprefix("docs/")
    return f"source/{path}.md"


def _content(path: str, tracked: set[str]) -> str:
    """Return the page of a file or folder of the repository."""
    whole = ROOT / path
    if whole.is_dir():
        return _folder(path, tracked)
    text = whole.read_text()
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n~~~~~~ {{ .{_LANGUAGES.get(whole.suffix, 'text')} linenums='1' }}\n{text}\n~~~~~~\n"


def _folder(path: str, tracked: set[str]) -> str:
    inside = sorted(name for name in tracked if posixpath.dirname(name) == path)
    rows = []
    for name in inside:
        title = re.match(r"# (.+)", (ROOT / name).read_text()) if name.endswith(".md") else None
        base = posixpath.basename(name)
        rows.append(f"- [{title[1]}]({base})" if title and path.startswith("docs/") else f"- `{base}`")
    return "\n".join([f"# {path}\n", *rows, ""])


def _links(path: str, text: str) -> Iterator[str]:
    """Yield the files and folders of the repository that the document at `path` links to."""
    for found in LINK.finditer(text):
        yield _resolved(path, found[2])


def _resolved(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _tracked() -> list[str]:
    """Return the files of the repository, including uncommitted ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
