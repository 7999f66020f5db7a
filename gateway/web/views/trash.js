// @ts-check
/** What was deleted in a space, and can be had back. */

import { restore } from "../actions.js";
import { at, pages } from "../api.js";
import { nameCell, sizeText } from "../cells.js";
import { changes } from "../changes.js";
import { debounced, fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { FileList } from "../list.js";
import { live } from "../live.js";
import { openMenu } from "../menu.js";
import { session } from "../session.js";
import { time } from "../times.js";
import { complain } from "../toasts.js";
import { words } from "../words.js";
import { blank, failure } from "./blank.js";

/** @import {Located, Node} from "../api.js" */
/** @import {Place, View} from "../router.js" */

const RUNG_MS = 300;

/** Where something was. @param {Located} node */
function folderOf({ path }) {
  return path.split("/").slice(0, -1).join(" / ") || "Top";
}

/** @param {Place} place @returns {View} */
export function trashView({ params: { space } }) {
  const editable = session.mayChange(space);
  const stop = new AbortController();
  const { signal } = stop;
  /** @type {Located[]} */
  let nodes = [];
  const list = new FileList({
    label: "Trash",
    columns: [
      {
        id: "name",
        title: "Name",
        cell: (node) => nameCell(node, { href: null, below: [folderOf(node), " · deleted ", time(node.deleted_at_ms)] }),
      },
      { id: "place", title: "Folder", cell: folderOf },
      { id: "changed", title: "Deleted", cell: (node) => time(node.deleted_at_ms) },
      { id: "size", title: "Size", cell: sizeText },
    ],
    open: () => {},
    menu: (where) =>
      editable &&
      openMenu([{ label: "Restore", icon: "restore", run: () => bringBack(list.selected) }], { label: "Actions", ...where }),
  });
  const tools = h("div", { class: "tools" });
  const state = h("div", { class: "state" });
  const element = h(
    "section",
    { class: "files trash" },
    h("div", { class: "bar" }, h("h1", null, "Trash"), tools),
    h("p", { class: "view-hint" }, "What is deleted in this space stays here until you restore it. It counts to the space used."),
    list.element,
    state,
  );
  list.element.hidden = true;
  list.selection.addEventListener("change", showTools);
  const again = debounced(RUNG_MS, () => void load());
  live.addEventListener("doorbell", (/** @type {any} */ { detail }) => detail.space === space && again(), { signal });
  live.addEventListener("resumed", again, { signal });
  changes.addEventListener("nodes", (/** @type {any} */ { detail }) => detail.space === space && take(detail.nodes), { signal });
  void load();
  return {
    title: "Trash",
    element,
    entered: () => list.entered(/** @type {HTMLElement} */ (element.closest(".outlet"))),
    leave() {
      stop.abort();
      again.cancel();
      list.leave();
    },
  };

  async function load() {
    try {
      /** @type {Located[]} */
      const found = [];
      for await (const page of pages(at`/v1/spaces/${space}/trash?page_size=1000`, { signal })) found.push(...page.nodes);
      nodes = found;
      show();
    } catch (error) {
      if (!signal.aborted) fill(state, failure(words(error)));
    }
  }

  /** @param {Node[]} told */
  function take(told) {
    const ids = new Set(told.map(({ id }) => id));
    nodes = nodes.filter(({ id }) => !ids.has(id));
    show();
    // Where something was is known by the service.
    if (told.some((node) => node.deleted_at_ms)) again();
  }

  function show() {
    nodes.sort((one, other) => (other.deleted_at_ms ?? 0) - (one.deleted_at_ms ?? 0));
    list.element.hidden = !nodes.length;
    list.show(nodes);
    fill(
      state,
      nodes.length
        ? null
        : blank({ picture: "trash", title: "The trash is empty", text: "What you delete comes here, and can be restored." }),
    );
    showTools();
  }

  function showTools() {
    const { selected } = list;
    const key = selected.map(({ id }) => id).join();
    if (tools.dataset.key === key) return;
    tools.dataset.key = key;
    element.classList.toggle("has-selection", selected.length > 0);
    fill(
      tools,
      selected.length > 0 && h("span", { class: "selection-count", role: "status" }, `${selected.length} selected`),
      selected.length > 0 &&
        editable &&
        h(
          "button",
          { type: "button", class: "button primary", on: { click: () => bringBack(selected) } },
          icon("restore"),
          "Restore",
        ),
    );
  }

  /** @param {Node[]} selected */
  function bringBack(selected) {
    void restore(space, selected).catch(complain);
  }
}
