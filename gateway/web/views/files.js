// @ts-check
/** The file browser: one folder of a space. */

import { copyTo, moveTo, newFolder, remove, rename } from "../actions.js";
import { changedCell, nameCell, sizeText, sorted, tilePicture } from "../cells.js";
import { dialogIsOpen } from "../dialogs.js";
import { dragsNodes, filesOf, takesDrops } from "../dragging.js";
import { entitle, fill, h } from "../dom.js";
import { Folder } from "../folder.js";
import { icon } from "../icons.js";
import { FileList } from "../list.js";
import { openMenu } from "../menu.js";
import { prefer, preference } from "../preferences.js";
import { folderPath, router } from "../router.js";
import { session } from "../session.js";
import { spaceTitle } from "../space_title.js";
import { complain } from "../toasts.js";
import { chooseFiles, uploadTo } from "../transfers.js";
import { words } from "../words.js";
import { crumbs } from "./crumbs.js";
import { entries, folderEntries, folderTools, selectionTools } from "./file_tools.js";
import { blank, failure } from "./blank.js";
import { pickFolder } from "./picker.js";
import { previewable, Preview } from "./preview.js";
import { shareDialog } from "./share.js";

/** @import {Node} from "../api.js" */
/** @import {Acts} from "./file_tools.js" */
/** @import {Place, View} from "../router.js" */

/** @param {Place} place @returns {View} */
export function filesView({ params, query }) {
  const { space, node: id = "root" } = params;
  const found = session.space(space);
  const top = found ? spaceTitle(found) : "Space";
  const editable = session.mayChange(space);
  const shared = !session.space(space)?.personal;
  const folder = new Folder(space, id);
  const way = crumbs(space, top);
  let order = { by: preference("sort", "name"), down: preference("sort-down", "") === "yes" };
  let nameOf = (/** @type {string} */ _user) => "";
  /** @type {Set<string>} */
  const named = new Set();
  /** @type {Preview | null} */
  let preview = null;
  /** A node to show once it is listed. @type {string | null} */
  let wanted = query.get("select");

  /** @type {FileList} */
  const list = new FileList({
    label: "Files",
    draggable: editable,
    columns: [
      { id: "name", title: "Name", sorts: true, cell: name },
      { id: "changed", title: "Changed", sorts: true, cell: (node) => changedCell(node, shared ? nameOf(node.user_id) : "") },
      { id: "size", title: "Size", sorts: true, cell: sizeText },
    ],
    open,
    sort: (by) => sortBy(by),
    menu: (where) => openMenu(entries(acts, list.selected), { label: "Actions", ...where }),
    keys: (key) => keys(key),
  });
  /** @type {Acts} */
  const acts = {
    space,
    editable,
    list,
    order: () => order,
    sortBy,
    toggleTiles,
    here,
    makeFolder,
    share: shareHere,
    open,
    move,
    copy,
  };
  const tools = h("div", { class: "tools" });
  const state = h("div", { class: "state" });
  const element = h("section", { class: "files" }, h("div", { class: "bar" }, way.element, tools), list.element, state);

  folder.addEventListener("change", show);
  list.selection.addEventListener("change", showTools);
  element.addEventListener("click", (event) => {
    if (event.target instanceof Element && !event.target.closest(".row, .bar, .list-head")) list.selection.clear();
  });
  element.addEventListener("contextmenu", (event) => {
    if (!editable || event.defaultPrevented || (event.target instanceof Element && event.target.closest(".bar, .row, a"))) return;
    event.preventDefault();
    list.selection.clear();
    openMenu(folderEntries(acts), { label: "Folder", x: event.clientX, y: event.clientY });
  });
  wireDrops();
  document.addEventListener("keydown", keysOfPage);
  list.tiles = preference("tiles", "") === "yes";
  way.show([]);
  show();

  return {
    title: top,
    element,
    entered() {
      list.entered(/** @type {HTMLElement} */ (element.closest(".outlet")));
      list.focus();
    },
    update(place) {
      const shown = place.query.get("preview");
      wanted = place.query.get("select") ?? wanted;
      if (shown) showPreview(shown);
      else closePreview();
      reveal();
    },
    leave() {
      closePreview();
      document.removeEventListener("keydown", keysOfPage);
      folder.close();
      list.leave();
    },
  };

  // ---- showing ----

  async function learnNames() {
    const users = new Set([...folder.nodes.values()].map((node) => node.user_id));
    if ([...users].every((user) => named.has(user))) return;
    for (const user of users) named.add(user);
    nameOf = await session.names(space, users);
    list.redraw();
  }

  function show() {
    const ready = folder.state === "ready" || folder.nodes.size > 0;
    if (ready) {
      way.show(folder.way);
      entitle(folder.name || top);
    }
    element.setAttribute("aria-busy", String(folder.state === "loading"));
    list.show(sorted(folder.nodes.values(), order), order);
    list.element.hidden = folder.nodes.size === 0;
    showState();
    showTools();
    if (shared) void learnNames();
    if (!ready) return;
    // The keyboard focus is on the page as a whole until there is a list.
    if (document.activeElement === document.body || document.activeElement?.matches("main")) list.focus();
    reveal();
    const shown = new URLSearchParams(location.search).get("preview");
    if (shown && !preview) showPreview(shown);
    preview?.show(files());
  }

  function showState() {
    if (folder.state === "failed" && !folder.nodes.size) {
      fill(state, failure(words(folder.error), { label: `Go to ${top}`, href: folderPath(space) }));
    } else if (folder.state === "ready" && !folder.nodes.size) {
      if (!state.querySelector(".empty")) fill(state, empty());
    } else {
      fill(state);
    }
  }

  function empty() {
    if (!editable)
      return blank({
        picture: "folder",
        title: "This folder is empty",
        text: "Those who may change this space can put files here.",
      });
    return blank({
      picture: "upload",
      title: id === "root" ? "Put your first files here" : "This folder is empty",
      text: "Drop files or folders anywhere on this page, or choose them.",
      buttons: [
        h(
          "button",
          { type: "button", class: "button primary", on: { click: () => chooseFiles(here(), { folder: false }) } },
          icon("upload"),
          "Upload files",
        ),
        h("button", { type: "button", class: "button", on: { click: makeFolder } }, icon("folderPlus"), "New folder"),
      ],
    });
  }

  function reveal() {
    if (!wanted || !folder.nodes.has(wanted)) return;
    list.reveal(wanted);
    wanted = null;
  }

  /** @param {Node} node */
  function name(node) {
    const href = node.kind === "directory" ? folderPath(space, node.id) : node.kind === "file" ? previewPath(node.id) : null;
    const size = sizeText(node);
    return nameCell(node, {
      href,
      below: [...changedCell(node), size && ` · ${size}`],
      picture: list.tiles ? tilePicture(space, node) : undefined,
    });
  }

  // ---- tools ----

  function showTools() {
    const nodes = list.selected;
    element.classList.toggle("has-selection", nodes.length > 0);
    const kind = nodes.length ? "selection" : "folder";
    const key = `${kind} ${nodes.map((node) => node.etag + node.id).join()} ${list.tiles} ${order.by}`;
    if (tools.dataset.key === key) return;
    tools.dataset.key = key;
    const held = tools.contains(document.activeElement);
    fill(tools, ...(nodes.length ? selectionTools(acts, nodes) : folderTools(acts)));
    if (held) list.focus();
  }

  function toggleTiles() {
    list.tiles = !list.tiles;
    prefer("tiles", list.tiles ? "yes" : "");
    showTools();
    /** @type {HTMLElement | null} */ (tools.querySelector("[aria-label^='Show as']"))?.focus();
  }

  /** @param {string} by */
  function sortBy(by) {
    order = { by, down: order.by === by ? !order.down : by !== "name" };
    prefer("sort", by);
    prefer("sort-down", order.down ? "yes" : "");
    list.show(sorted(folder.nodes.values(), order), order);
    showTools();
  }

  // ---- doing ----

  function here() {
    return { space, parent: id, label: folder.name || top };
  }

  function makeFolder() {
    newFolder(space, id, (made) => {
      wanted = made.id;
      reveal();
    });
  }

  function shareHere() {
    const itself = folder.way.at(-1);
    shareDialog(space, itself ? { ...itself, kind: "directory" } : null);
  }

  /** @param {Node[]} nodes */
  function move(nodes) {
    const without = new Set(nodes.map((node) => node.id));
    pickFolder({
      title: nodes.length === 1 ? `Move “${nodes[0].name}”` : `Move ${nodes.length} items`,
      action: "Move here",
      space,
      top,
      from: id,
      without,
      run: (to) => moveTo(space, nodes, to),
    });
  }

  /** @param {Node[]} nodes */
  function copy(nodes) {
    const without = new Set(nodes.map((node) => node.id));
    pickFolder({
      title: nodes.length === 1 ? `Copy “${nodes[0].name}”` : `Copy ${nodes.length} items`,
      action: "Copy here",
      space,
      top,
      from: id,
      without,
      run: (to) => copyTo(space, nodes, to),
    });
  }

  /** @param {Node} node */
  function open(node) {
    if (node.kind === "directory") router.go(folderPath(space, node.id));
    else if (node.kind === "file") router.go(previewPath(node.id));
  }

  /** @param {string} key */
  function keys(key) {
    const nodes = list.meant;
    if (key === "Delete" && nodes.length && editable) void remove(space, nodes).catch(complain);
    else if (key === "F2" && nodes.length === 1 && editable) rename(space, nodes[0]);
    else return false;
    return true;
  }

  /** Keys that work wherever the keys are, but where one writes. @param {KeyboardEvent} event */
  function keysOfPage(event) {
    const at = event.target instanceof Element ? event.target : null;
    if (event.defaultPrevented || dialogIsOpen() || at?.closest("input:not([type=checkbox]), textarea, select, [role=menu]"))
      return;
    if (event.key === "Backspace" && folder.way.length) router.go(folderPath(space, folder.way.at(-2)?.id ?? "root"));
    else if (event.key === "Escape" && list.selection.size) list.selection.clear();
    else return;
    event.preventDefault();
  }

  function wireDrops() {
    if (!editable) return;
    dragsNodes(list.body, (event) => {
      const node = list.nodeAt(event.target);
      if (node && !list.selection.has(node.id)) list.selection.only(node.id);
      return list.selected;
    });
    takesDrops(element, {
      target(event) {
        const at = /** @type {Element} */ (event.target);
        const node = list.nodeAt(at);
        if (node?.kind === "directory") return { element: /** @type {Element} */ (at.closest(".row")), folder: node };
        const crumb = at.closest("[data-folder]");
        if (crumb instanceof HTMLElement)
          return { element: crumb, folder: { id: crumb.dataset.folder ?? "root", name: crumb.dataset.name ?? top } };
        return { element, folder: { id, name: folder.name || top } };
      },
      nodes: (nodes, to) => void moveTo(space, nodes, to).catch(complain),
      files: (dropped, to) =>
        void filesOf(dropped)
          .then((found) => uploadTo({ space, parent: to.id, label: to.name }, found))
          .catch(complain),
      hover: (to) => to.id !== id && router.go(folderPath(space, to.id)),
    });
  }

  // ---- previews ----

  function files() {
    return list.items.filter((/** @type {Node} */ node) => previewable(node));
  }

  /** @param {string} node */
  function previewPath(node) {
    return `${folderPath(space, id)}?preview=${node}`;
  }

  /** @param {string} node */
  function showPreview(node) {
    if (folder.state === "loading" && !folder.nodes.has(node)) return;
    if (preview) return preview.turnTo(node);
    if (!folder.nodes.has(node)) return router.go(folderPath(space, id), { replace: true });
    preview = new Preview({
      space,
      nodes: files(),
      id: node,
      turned: (to) => router.go(previewPath(to), { replace: true }),
      closed: () => {
        const last = preview?.id;
        preview = null;
        if (new URLSearchParams(location.search).has("preview")) router.back(folderPath(space, id));
        if (last) list.goTo(last);
      },
      menu: (anchor, shown) =>
        openMenu(
          entries(acts, [shown]).filter((entry) => entry?.label !== "Preview"),
          { label: "Actions", anchor },
        ),
    });
    return undefined;
  }

  function closePreview() {
    const open = preview;
    preview = null;
    open?.close();
  }
}
