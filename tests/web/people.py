"""A person at a browser: finds things by their roles and names, as those do who cannot see the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncline.model.identifiers import new_text_id
from tests.support.passwords import STRONG

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, FilePayload, Locator, Page, Response

PATIENCE_MS = 60_000
"""However busy the machine is: a doorbell that was lost once comes again after half a minute."""
PASSWORD = STRONG
WINDOWS: dict[str, Any] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
"""The contexts of a browser in a window, and of one on a phone."""
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

# The browser breaks requests off when a page is left, or a file saved.
_LEAVING = re.compile(r"net::ERR_ABORTED")
_CSP = "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"

Files = dict[str, bytes]


def _payload(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


class Person:
    """Collects in `troubles` what goes wrong in the browser and was not expected."""

    def __init__(self, name: str, context: BrowserContext, endpoint: str) -> None:
        self.email = f"{name}-{new_text_id()[:8]}@example.com"
        self.endpoint = endpoint
        self.context = context
        self.troubles: list[str] = []
        self._expected: list[re.Pattern[str]] = [re.compile(r"401 GET .*/v1/session$")]
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_CSP)
        context.on("page", self._watch)
        self.page: Page = context.new_page()

    # ---- what may go wrong ----

    def expect(self, pattern: str) -> None:
        """Expect trouble that matches: `STATUS METHOD URL` of a response, or a message."""
        self._expected.append(re.compile(pattern))

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self._note(f"{error}\n{error.stack}"))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("response", self._answered)
        page.on("requestfailed", lambda request: self._note(f"{request.failure} {request.method} {request.url}"))

    def _said(self, kind: str, text: str) -> None:
        # The browser's own news of a bad status is told by the response, with more in it.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self._note(f"{kind}: {text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"{response.status} {response.request.method} {response.url}")

    def _note(self, trouble: str) -> None:
        if not _LEAVING.search(trouble) and not any(pattern.search(trouble) for pattern in self._expected):
            self.troubles.append(trouble)

    # ---- hands and eyes ----

    def shot(self, name: str) -> None:
        """A picture, to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def button(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact).first

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True)

    def row(self, name: str) -> Locator:
        """The row of a file or folder."""
        return self.page.get_by_role("row").filter(has=self.page.get_by_role("rowheader").get_by_text(name, exact=True))

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    @property
    def toast(self) -> Locator:
        return self.page.get_by_role("status", name="Messages")

    @property
    def uploads(self) -> Locator:
        return self.page.get_by_role("region", name="Uploads", exact=True)

    def see(self, locator: Locator, *, timeout: float = PATIENCE_MS) -> Locator:
        locator.wait_for(timeout=timeout)
        return locator

    def see_no(self, locator: Locator, *, timeout: float = PATIENCE_MS) -> None:
        locator.wait_for(state="hidden", timeout=timeout)

    def see_path(self, *names: str) -> None:
        """The breadcrumbs say this."""
        path = self.page.get_by_role("navigation", name="Path")
        self.see(path.get_by_role("heading", name=names[-1], exact=True))
        assert path.get_by_role("listitem").all_inner_texts() == list(names)

    # ---- what people do ----

    def open(self, path: str = "/") -> None:
        self.page.goto(f"{self.endpoint}{path}")

    def sign_up(self) -> None:
        self.open()
        self.button("Create an account").click()
        self.fill_credentials()
        self.button("Create account").click()
        self.see(self.page.get_by_role("heading", name="My files", exact=True))

    def sign_in(self, path: str = "/") -> None:
        self.open(path)
        self.fill_credentials()
        self.button("Sign in").click()
        self.see(self.button("Account of", exact=False))

    def fill_credentials(self, password: str = PASSWORD) -> None:
        self.page.get_by_label("E-mail address").fill(self.email)
        self.page.get_by_label("Password").fill(password)

    def sign_out(self) -> None:
        self.button("Account of", exact=False).click()
        self.page.get_by_role("menuitem", name="Sign out").click()
        self.see(self.page.get_by_role("heading", name="Sign in"))

    def make_folder(self, name: str) -> None:
        self.button("New folder").click()
        self.dialog.get_by_label("Name").fill(name)
        self.dialog.get_by_role("button", name="Create").click()
        self.see_no(self.dialog)
        # New nodes are selected, and tools for a selection stand where the others were.
        self.page.wait_for_function(
            "() => document.querySelector('[role=grid] [aria-selected=true]')",
        )
        self.see(self.row(name))
        self.page.keyboard.press("Escape")
        self.see(self.button("New folder"))

    def make_space(self, name: str) -> None:
        self.button("New space").click()
        self.dialog.get_by_label("Name").fill(name)
        self.dialog.get_by_role("button", name="Create").click()
        self.see(self.page.get_by_role("heading", name=name, exact=True, level=1))

    def upload(self, files: Files) -> None:
        """Choose files by the button, and wait until they are there."""
        self.choose(files)
        self.see_uploaded(len(files))

    def choose(self, files: Files | Path, kind: str = "Files") -> None:
        """Choose files, or a folder, by the button."""
        with self.page.expect_file_chooser() as chooser:
            self.button("Upload").click()
            self.page.get_by_role("menuitem", name=kind).click()
        if isinstance(files, Path):
            chooser.value.set_files(files)
        else:
            chooser.value.set_files([_payload(name, data) for name, data in files.items()])

    def see_uploaded(self, files: int, *, timeout: float = 2 * PATIENCE_MS) -> None:
        done = "1 file uploaded" if files == 1 else f"{files} files uploaded"
        self.see(self.uploads.get_by_role("heading", name=done, exact=True), timeout=timeout)

    def dismiss_uploads(self) -> None:
        self.uploads.get_by_role("button", name="Close").click()
        self.see_no(self.uploads)

    def do(self, name: str, action: str) -> None:
        """Something from the menu of a row."""
        self.row(name).get_by_role("button", name="Actions for").click()
        self.page.get_by_role("menuitem", name=action).click()

    def drop_from_outside(self, paths: list[Path], onto: Locator) -> None:
        """Drag files and folders of this machine over the page, and drop them."""
        box = onto.bounding_box()
        assert box is not None
        session = self.context.new_cdp_session(self.page)
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data: dict[str, Any] = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})
        session.detach()

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request that the page itself could make, with its cookie and token."""
        script = """async ([method, path, body]) => {
            const { call } = await import("/web/api.js");
            return call(method, path, body === null ? {} : { body });
        }"""
        return self.page.evaluate(script, [method, path, body])

    @property
    def space(self) -> str:
        """The id of the space that is shown."""
        found = re.search(r"/s/([a-z2-7]+)", self.page.url)
        assert found is not None
        return found[1]
