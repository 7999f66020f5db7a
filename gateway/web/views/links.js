// @ts-check
/** Public links to a file, a folder or a space: who has one needs no account. */

import { at, call, everything } from "../api.js";
import { confirm } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { dateOf, plural } from "../format.js";
import { icon } from "../icons.js";
import { session } from "../session.js";
import { time } from "../times.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";
import { shownOnce } from "./once.js";

/** @import {Link} from "../api.js" */

const DAY_MS = 86_400_000;
/** @type {[string, string][]} */
const TERMS = [
  ["1", "in a day"],
  ["7", "in a week"],
  ["30", "in a month"],
  ["", "never"],
];

/** @param {HTMLElement} part @param {string} space @param {string} node @param {string} what a file, folder or space */
export function linksPart(part, space, node, what) {
  const editable = session.mayChange(space);
  const list = h("ul", { class: "links" }, h("li", null, loading()));
  const made = h("div", { class: "made" });
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const password = h("input", { type: "password", autocomplete: "new-password", maxlength: 1024, placeholder: "None" });
  const term = h("select", null, ...TERMS.map(([value, text]) => h("option", { value, selected: value === "30" }, text)));
  const limit = h("input", { type: "number", min: 1, max: 1_000_000, step: 1, inputmode: "numeric", placeholder: "No limit" });
  const create = h(
    "button",
    { type: "button", class: "button primary", on: { click: () => void make() } },
    icon("link"),
    "Create link",
  );
  fill(
    part,
    h("h3", null, "Public links"),
    h("p", { class: "hint" }, `Whoever has a link can see and download this ${what}, without an account.`),
    editable &&
      h(
        "div",
        { class: "new-link" },
        h("label", { class: "field" }, h("span", null, "Password"), password),
        h("label", { class: "field" }, h("span", null, "Ends"), term),
        h("label", { class: "field" }, h("span", null, "Downloads"), limit),
        create,
      ),
    trouble,
    made,
    list,
  );
  void show().catch(failed);

  async function show() {
    const links = await everything(at`/v1/spaces/${space}/links`, "links");
    const here = links.filter((/** @type {Link} */ link) => link.node === node);
    fill(list, ...here.map(row));
  }

  async function make() {
    fill(trouble);
    if (!limit.validity.valid) {
      fill(trouble, "The number of downloads is a whole number from 1 on.");
      return limit.focus();
    }
    create.disabled = true;
    try {
      const body = {
        node,
        password: password.value || null,
        expires_at_ms: term.value ? Date.now() + Number(term.value) * DAY_MS : null,
        max_downloads: limit.value ? Number(limit.value) : null,
      };
      const link = await call("POST", at`/v1/spaces/${space}/links`, { body });
      password.value = limit.value = "";
      shownOnce(made, { label: "Address of the new link", text: link.url, hint: "Copy it now: the address is not shown again." });
      await show();
    } catch (error) {
      failed(error);
    } finally {
      create.disabled = false;
    }
    return undefined;
  }

  /** @param {Link} link */
  function row(link) {
    const { created_at_ms, expires_at_ms, has_password, max_downloads, downloads } = link;
    const facts = [
      has_password && "with a password",
      expires_at_ms ? `until ${dateOf(expires_at_ms)}` : "without an end",
      max_downloads ? `${downloads} of ${plural(max_downloads, "download")}` : plural(downloads, "download"),
    ];
    return h(
      "li",
      { class: "link-row" },
      icon(has_password ? "lock" : "link"),
      h(
        "div",
        { class: "link-words" },
        h("p", null, "Made ", time(created_at_ms)),
        h("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
      ),
      editable && h("button", { type: "button", class: "button small", on: { click: () => revoke(link) } }, "Revoke"),
    );
  }

  /** @param {Link} link */
  function revoke({ link_id }) {
    confirm({
      title: "Revoke the link?",
      text: "Its address will lead nowhere from then on. This cannot be undone.",
      action: "Revoke",
      run: async () => {
        await call("DELETE", at`/v1/spaces/${space}/links/${link_id}`);
        fill(made);
        await show();
        toast("The link is revoked");
      },
    });
  }

  /** @param {unknown} error */
  function failed(error) {
    fill(list);
    fill(trouble, words(error));
  }
}
