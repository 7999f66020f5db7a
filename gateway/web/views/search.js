// @ts-check
/** What was found in a space. */

import { download } from "../actions.js";
import { at, call, pageAt } from "../api.js";
import { changedCell, nameCell, sizeText } from "../cells.js";
import { entitle, fill, h } from "../dom.js";
import { plural } from "../format.js";
import { FileList } from "../list.js";
import { openMenu } from "../menu.js";
import { folderPath, router } from "../router.js";
import { complain } from "../toasts.js";
import { words } from "../words.js";
import { blank, failure, loading } from "./blank.js";
import { detailsOf } from "./details.js";
import { previewable } from "./preview.js";
import { shareDialog } from "./share.js";

/** @import {Located, Node} from "../api.js" */
/** @import {Entry} from "../menu.js" */
/** @import {Place, View} from "../router.js" */

/** @param {Place} place @returns {View} */
export function searchView({ params: { space }, query }) {
  /** @type {Located[]} */
  let found = [];
  let text = "";
  let more = "";
  let asking = new AbortController();
  const title = h("h1", null);
  const count = h("p", { class: "view-hint", role: "status" });
  const state = h("div", { class: "state" });
  const list = new FileList({
    label: "Results",
    columns: [
      { id: "name", title: "Name", cell: (node) => nameCell(node, { href: addressOf(node), below: [folderOf(node)] }) },
      { id: "place", title: "Folder", cell: (node) => folderLink(node) },
      { id: "changed", title: "Changed", cell: (node) => changedCell(node) },
      { id: "size", title: "Size", cell: sizeText },
    ],
    open: (node) => router.go(addressOf(node)),
    menu: (where) => openMenu(entries(list.selected), { label: "Actions", ...where }),
  });
  const next = h(
    "button",
    { type: "button", class: "button", hidden: true, on: { click: () => void ask().catch(complain) } },
    "Show more",
  );
  const element = h(
    "section",
    { class: "files results" },
    h("div", { class: "bar" }, title),
    count,
    list.element,
    h("div", { class: "more-results" }, next),
    state,
  );
  list.element.hidden = true;
  return {
    title: `Search: ${query.get("q") ?? ""}`,
    element,
    entered: () => list.entered(/** @type {HTMLElement} */ (element.closest(".outlet"))),
    update(place) {
      const wanted = place.query.get("q") ?? "";
      if (wanted === text) return;
      text = wanted;
      more = "";
      entitle(`Search: ${text}`);
      fill(title, "Results for “", h("bdi", null, text), "”");
      void ask().catch((error) => show(error));
    },
    leave() {
      asking.abort();
      list.leave();
    },
  };

  async function ask() {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const slow = setTimeout(() => fill(state, loading()), 300);
    try {
      let page;
      do {
        // A page on which nothing was found may not be the last.
        const path = pageAt(at`/v1/spaces/${space}/search?q=${text}`, more);
        page = await call("GET", path, { signal });
        found = more ? [...found, ...page.nodes] : page.nodes;
        more = page.next_page_token ?? "";
      } while (more && !page.nodes.length);
      show();
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      clearTimeout(slow);
    }
  }

  /** @param {unknown} [error] */
  function show(error) {
    list.element.hidden = !found.length || Boolean(error);
    next.hidden = !more;
    if (error) return fill(state, failure(words(error)));
    list.show(found);
    fill(count, found.length ? `${plural(found.length, "result")}${more ? " so far" : ""}` : "");
    return fill(
      state,
      found.length
        ? null
        : blank({
            picture: "search",
            title: "Nothing was found",
            text: "Every word must be in the name. Fewer or shorter words find more.",
          }),
    );
  }

  /** @param {Located} node */
  function addressOf(node) {
    if (node.kind === "directory") return folderPath(space, node.id);
    return `${folderPath(space, node.parent)}?${previewable(node) ? "preview" : "select"}=${node.id}`;
  }

  /** @param {Located} node */
  function folderOf(node) {
    return node.path.split("/").filter(Boolean).slice(0, -1).join(" / ") || "Top of the space";
  }

  /** @param {Located} node */
  function folderLink(node) {
    return h(
      "a",
      { class: "quiet-link", href: `${folderPath(space, node.parent)}?select=${node.id}`, tabindex: -1, title: node.path },
      folderOf(node),
    );
  }

  /** @param {Node[]} nodes @returns {Entry[]} */
  function entries(nodes) {
    const [one] = nodes;
    /** @type {Entry[]} */
    const all = [{ label: "Download", icon: "download", run: () => download(space, nodes) }];
    if (nodes.length > 1) return all;
    return [
      {
        label: one.kind === "directory" ? "Open" : "Preview",
        icon: "eye",
        keys: "Enter",
        run: () => router.go(addressOf(/** @type {Located} */ (one))),
      },
      { label: "Show in folder", icon: "folder", run: () => router.go(`${folderPath(space, one.parent)}?select=${one.id}`) },
      ...all,
      { label: "Share…", icon: "link", run: () => shareDialog(space, one) },
      { label: one.kind === "file" ? "Version history" : "Details", icon: "history", run: () => detailsOf(space, one) },
    ];
  }
}
