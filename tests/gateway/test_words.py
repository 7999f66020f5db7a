"""The texts of verdicts are the same wherever a refusal is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.services.changes import refused
from syncline.cli.space_paths import ChangeRefused, accepted_node
from syncline.model.tree import Result
from syncline.model.verdicts import Verdict

WEB = Path(__file__).parents[2] / "gateway/web"
REFUSALS = [verdict for verdict in Verdict if verdict is not Verdict.ACCEPTED]


def test_the_web_app_has_a_copy_of_each_text() -> None:
    entries = re.findall(r'^  (\w+): "(.*)",$', (WEB / "verdicts.js").read_text(), re.MULTILINE)
    assert dict(entries) == {verdict.name: verdict.text.replace("directory", "folder") for verdict in REFUSALS}
    assert len(entries) == len(REFUSALS)


def test_no_other_module_of_the_web_app_has_texts_of_its_own() -> None:
    named = re.compile(rf"^\s*({'|'.join(verdict.name for verdict in REFUSALS)}):", re.MULTILINE)
    modules = [path for path in WEB.rglob("*.js") if "vendor" not in path.parts and path.name != "verdicts.js"]
    assert {path.name: named.findall(path.read_text()) for path in modules if named.search(path.read_text())} == {}


@pytest.mark.parametrize("verdict", REFUSALS)
def test_a_text_is_one_clause_that_the_api_and_the_command_line_tell(verdict: Verdict) -> None:
    assert re.fullmatch(r"[a-z].*[^.]", verdict.text)
    error = refused(verdict)
    assert (error.reason, str(error)) == (verdict.name, verdict.text)
    with pytest.raises(ChangeRefused, match=f"^notes: {re.escape(verdict.text)}(; |$)"):
        accepted_node(Result(verdict), "notes")
