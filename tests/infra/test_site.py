"""The site of the documentation: references are complete, links lead to pages, and nothing comes from elsewhere."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.site import hooks, rest
from infra.site.text import cell, plain
from stack.up import Stack
from tests.gateway.client import Api

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as by `make docs`."""
    directory = tmp_path_factory.mktemp("site")
    done = built("--site-dir", str(directory))
    assert done.returncode == 0, done.stderr
    return directory


def built(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of `make docs` with these arguments."""
    (command,) = re.findall(r"^\t\$\(BIN\)/(mkdocs .*) \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return subprocess.run(
        [*str(command).split(), *arguments],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def shown(page: Path) -> str:
    """The text of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_references_are_complete(site: Path) -> None:
    services = shown(site / "reference/protos.html")
    protos = "\n".join(path.read_text() for path in (ROOT / "protos/syncline").rglob("*.proto"))
    names = re.findall(r"^ *(?:rpc|message|enum) (\w+)", protos, re.MULTILINE)
    assert len(names) > 100
    assert [name for name in names if name not in services] == []
    comments = [line.strip("/ ").replace("`", "") for line in protos.splitlines() if line.strip().startswith("//")]
    assert [line for line in comments if " ".join(line.split()) not in " ".join(services.split())] == []
    operations = shown(site / "reference/rest.html")
    for path, methods in rest.openapi_document()["paths"].items():
        assert [method for method in methods if method != "head" and f"{method.upper()} {path}" not in operations] == []
    sdk = shown(site / "reference/sdk.html")
    for name in (
        "sign_in",
        "create_space",
        "check_versions",
        "Uploader",
        "Downloader",
        "UpdateContent",
        "SynclineError",
    ):
        assert name in sdk, name


def test_the_api_is_described_as_a_gateway_describes_it(stack: Stack) -> None:
    assert rest.openapi_document() == Api(stack.endpoint).done("GET", "/openapi.json")


def test_links_out_of_the_documents_lead_to_pages(site: Path) -> None:
    page = (site / "life-of-a-change.html").read_text()
    sources = re.findall(r'href="(source/[^"]+)"', page)
    assert len(sources) > 30
    for source in sources:
        code = shown(site / source)
        path = source.removeprefix("source/").removesuffix(".html")
        assert " ".join((ROOT / path).read_text().split("\n")[0].split()) in " ".join(code.split()), path
    assert 'href="decisions/index.html"' in (site / "develop.html").read_text()
    assert 'href="docs/' not in (site / "index.html").read_text()


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/broken.md").write_text(
        "# Broken\n\n[gone](../lib/syncline/model/gone.py), [there](../lib/syncline/model/names.py), [no](#no)\n"
    )
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT}/mkdocs.yml\nhooks: [{ROOT}/infra/site/hooks.py]\nplugins: []\nnav: [broken.md]\n"
    )
    done = built("--config-file", str(tmp_path / "mkdocs.yml"), "--site-dir", str(tmp_path / "site"))
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "'broken.md'" in line]
    assert len(told) == 2, done.stderr
    assert "'source/lib/syncline/model/gone.py.md', but the target is not found" in told[0]
    assert "'#no', but there is no such anchor" in told[1]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = re.compile(
        r"""<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]*|<link[^>]+stylesheet[^>]+href="(?:https?:)?//[^"]*"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    assert [found for page in pages for found in fetched.findall(page.read_text())] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]*", styles) == []


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("README.md", "index.md"),
        ("docs/limits.md", "limits.md"),
        ("docs/decisions", "decisions/index.md"),
        ("changelog", "changelog/README.md"),
        ("protos", "reference/protos.md"),
        ("lib/syncline/model/names.py", "source/lib/syncline/model/names.py.md"),
    ],
)
def test_each_file_has_an_address(path: str, address: str) -> None:
    assert hooks.address_of(path) == address


def test_what_looks_like_html_is_text() -> None:
    assert plain("a <b>, B_*, [i] and `c <d>[i]`") == r"a &lt;b>, B_\*, \[i] and `c <d>[i]`"
    assert cell("one\n two | three") == "one two \\| three"
