// @ts-check
/** Keys by which programs act in one's name. */

import { call } from "../api.js";
import { fill, h } from "../dom.js";
import { session } from "../session.js";
import { words } from "../words.js";
import { showDevices } from "./devices.js";
import { shownOnce } from "./once.js";

const DAY_MS = 86_400_000;
/** @type {[number, string][]} */
const TERMS = [
  [30, "30 days"],
  [90, "90 days"],
  [365, "a year"],
];

/** @type {[string, string][]} */
const SCOPES = [
  ["read write", "Read and change files"],
  ["read", "Only read"],
  ["read write share", "Read and change files, and share"],
];

/** @param {HTMLElement} part */
export function keysPart(part) {
  const name = h("input", { type: "text", maxlength: 100, autocomplete: "off", placeholder: "Such as “backup script”" });
  const scope = h("select", null, ...SCOPES.map(([value, text]) => h("option", { value }, text)));
  const named = session.spaces.map(({ space_id, alias }) => h("option", { value: space_id }, alias));
  const space = h("select", null, h("option", { value: "" }, "All spaces"), ...named);
  const term = h("select", null, ...TERMS.map(([days, text]) => h("option", { value: days, selected: days === 90 }, text)));
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const made = h("div", { class: "made" });
  const list = h("ul", { class: "devices" });
  const form = h(
    "form",
    { class: "new-key", novalidate: true, on: { submit: (/** @type {SubmitEvent} */ event) => void make(event) } },
    h("label", { class: "field" }, h("span", null, "What it is for"), name),
    h("label", { class: "field" }, h("span", null, "May"), scope),
    h("label", { class: "field" }, h("span", null, "Opens"), space),
    h("label", { class: "field" }, h("span", null, "Valid for"), term),
    h("button", { type: "submit", class: "button primary" }, "Create key"),
  );
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Keys for programs"),
      h(
        "p",
        { class: "hint" },
        "A key lets a program act for you, as far as you say here. Give each program its own, so that you can revoke it alone.",
      ),
      form,
      trouble,
      made,
      list,
    ),
    h(
      "section",
      null,
      h("h2", null, "As a network drive"),
      h("p", null, "File managers open your spaces over WebDAV. Use your e-mail address as the name and a key as the password:"),
      h("pre", { class: "command", tabindex: 0 }, `${location.origin}/dav/`),
      h(
        "p",
        { class: "hint" },
        "Other programs send ",
        h("code", null, "Authorization: Bearer KEY"),
        " to the ",
        h("a", { href: "/docs", target: "_blank" }, "interface for programs"),
        ".",
      ),
    ),
  );
  const show = () => showDevices(list, ({ kind }) => kind === "program", "You have made no keys yet.");
  void show();

  /** @param {SubmitEvent} event */
  async function make(event) {
    event.preventDefault();
    fill(trouble);
    if (!name.value.trim()) {
      fill(trouble, "Say what the key is for, so that you know it again.");
      return name.focus();
    }
    try {
      const answer = await call("POST", "/v1/keys", {
        body: {
          name: name.value.trim(),
          expires_at_ms: Date.now() + Number(term.value) * DAY_MS,
          scopes: scope.value.split(" "),
          spaces: space.value ? [space.value] : null,
        },
      });
      name.value = "";
      shownOnce(made, { label: "The new key", text: answer.key, hint: "Copy it now: it is not shown again." });
      await show();
    } catch (error) {
      fill(trouble, words(error));
    }
    return undefined;
  }
}
