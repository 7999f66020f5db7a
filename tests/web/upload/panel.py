"""The actions of a person in a page that uploads, and the things that the person sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.web.upload.cloud import TOKEN

if TYPE_CHECKING:
    from playwright.sync_api import Page

START = """async (options) => {
    const { Uploads } = await import("/upload/uploads.js");
    const { createApi, sameOrigin } = await import("/upload/api.js");
    const patience = { attempts: 6, first: 20, longest: 200 };
    window.events = [];
    window.changes = 0;
    const api = createApi(sameOrigin(() => options.token));
    window.uploads = new Uploads({ api, owner: "u1", patience, ...options });
    uploads.addEventListener("change", () => window.changes++);
    for (const type of ["committed", "finished"]) {
        uploads.addEventListener(type, ({ detail }) => events.push({ type, ...detail }));
    }
    await uploads.open();
}"""


class Panel:
    """The actions of a person in a page, and the things that the person sees."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def start(self, **options: Any) -> None:
        self.page.evaluate(START, {"token": TOKEN} | options)

    def reload(self, **options: Any) -> None:
        self.page.reload()
        self.start(**options)

    def add(self, *paths: Any, place: dict[str, Any] | None = None, chooser: str = "files") -> str:
        self.page.set_input_files(f"#{chooser}", [str(path) for path in paths] if chooser == "files" else str(paths[0]))
        script = "([chooser, place]) => uploads.add(document.getElementById(chooser).files, { space: 's', ...place })"
        return str(self.page.evaluate(script, [chooser, place or {}]))

    def do(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def batches(self) -> list[dict[str, Any]]:
        return list(self.page.evaluate("() => uploads.batches()"))

    def items(self) -> list[dict[str, Any]]:
        return list(self.page.evaluate("() => uploads.batches().flatMap(({ id }) => uploads.items(id))"))

    def item(self, path: str) -> dict[str, Any]:
        return next(item for item in self.items() if item["path"] == path)

    def wait(self, condition: str, argument: Any = None, seconds: float = 60) -> None:
        """Wait until the expression over `items` and `batches` holds."""
        script = f"""(argument) => {{
            const batches = uploads.batches();
            const items = batches.flatMap(({{ id }}) => uploads.items(id));
            return {condition};
        }}"""
        try:
            self.page.wait_for_function(script, arg=argument, timeout=seconds * 1000, polling=30)
        except Exception as error:
            states = [(i["path"], i["state"], i["done"], i["reason"]) for i in self.items()[:10]]
            raise AssertionError(f"waited in vain for {condition}: {states}") from error

    def wait_for_end(self, seconds: float = 60) -> None:
        self.wait("batches.length && !uploads.busy", seconds=seconds)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until the condition holds on this side; the page goes on meanwhile."""
        for _ in range(int(seconds / 0.02)):
            if condition():
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"waited in vain: {self.items()[:5]}")
