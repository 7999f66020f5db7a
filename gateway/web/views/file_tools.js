// @ts-check
/** Actions on a folder and on the selected items in it, as buttons and as menus. */

import { download, remove, rename } from "../actions.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { opensMenu } from "../menu.js";
import { complain } from "../toasts.js";
import { chooseFiles } from "../transfers.js";
import { detailsOf } from "./details.js";
import { shareDialog } from "./share.js";

/** @import {Node} from "../api.js" */
/** @import {Order} from "../cells.js" */
/** @import {FileList} from "../list.js" */
/** @import {Entry} from "../menu.js" */
/** @import {Place} from "../transfers.js" */

/**
 * @typedef {object} Acts what the view of a folder does
 * @property {string} space
 * @property {boolean} editable
 * @property {FileList} list
 * @property {() => Order} order
 * @property {(by: string) => void} sortBy
 * @property {() => void} toggleTiles
 * @property {() => Place} here where files go
 * @property {() => void} makeFolder
 * @property {() => void} share the folder itself
 * @property {(node: Node) => void} open
 * @property {(nodes: Node[]) => void} move
 * @property {(nodes: Node[]) => void} copy
 */

/** @type {[string, string][]} */
const ORDERS = [
  ["name", "Name"],
  ["changed", "Changed"],
  ["size", "Size"],
];

/** @param {Acts} acts */
export function folderTools({ editable, list, order, sortBy, toggleTiles, here, makeFolder, share }) {
  const other = list.tiles ? "Show as list" : "Show as tiles";
  const button = (/** @type {string} */ text, /** @type {string} */ picture, /** @type {(() => void) | null} */ run) =>
    h("button", { type: "button", class: "button", on: run ? { click: run } : {} }, icon(picture), h("span", null, text));
  const always = [
    opensMenu(iconButton("Sort", "sort", null, list.tiles ? "" : "when-narrow"), "Sort", () =>
      ORDERS.map(([by, label]) => ({ label, checked: order().by === by, run: () => sortBy(by) })),
    ),
    iconButton(other, list.tiles ? "list" : "grid", toggleTiles),
    button("Share", "people", share),
  ];
  if (!editable) return always;
  const upload = button("Upload", "upload", null);
  upload.classList.add("primary");
  opensMenu(upload, "Upload", () => [
    { label: "Files", icon: "file", run: () => chooseFiles(here(), { folder: false }) },
    { label: "Folder", icon: "folder", run: () => chooseFiles(here(), { folder: true }) },
  ]);
  return [...always, button("New folder", "folderPlus", makeFolder), upload];
}

/** @param {Acts} acts @param {Node[]} nodes */
export function selectionTools(acts, nodes) {
  const { space, editable, list, move } = acts;
  const clear = () => {
    list.selection.clear();
    list.focus();
  };
  return [
    h(
      "div",
      { class: "selection", role: "toolbar", "aria-label": "Selection" },
      iconButton("Clear selection", "close", clear),
      h("span", { class: "selection-count", role: "status" }, `${nodes.length} selected`),
      iconButton("Download", "download", () => download(space, nodes)),
      nodes.length === 1 && iconButton("Share", "link", () => shareDialog(space, nodes[0]), "when-wide"),
      editable && iconButton("Move to…", "move", () => move(nodes)),
      editable && iconButton("Delete", "trash", () => void remove(space, nodes).catch(complain)),
      opensMenu(iconButton("More actions", "more", null), "More actions", () => entries(acts, list.selected)),
    ),
  ];
}

/** @param {Acts} acts @returns {Entry[]} */
export function folderEntries({ here, makeFolder, share }) {
  return [
    { label: "New folder…", icon: "folderPlus", run: makeFolder },
    { label: "Upload files", icon: "file", run: () => chooseFiles(here(), { folder: false }) },
    { label: "Upload folder", icon: "folder", run: () => chooseFiles(here(), { folder: true }) },
    null,
    { label: "Share…", icon: "people", run: share },
  ];
}

/** @param {string} label @param {string} picture @param {(() => void) | null} run @param {string} [className] */
function iconButton(label, picture, run, className = "") {
  const on = run ? { click: run } : {};
  return h("button", { type: "button", class: `icon-button ${className}`, "aria-label": label, title: label, on }, icon(picture));
}

/** @param {Acts} acts @param {Node[]} nodes @returns {Entry[]} */
export function entries(acts, nodes) {
  const { space, editable, open, move, copy } = acts;
  const one = nodes.length === 1 ? nodes[0] : null;
  const folder = one?.kind === "directory";
  /** @type {(Entry | false)[]} */
  const all = [
    one !== null &&
      one.kind !== "symlink" && {
        label: folder ? "Open" : "Preview",
        icon: folder ? "folder" : "eye",
        keys: "Enter",
        run: () => open(one),
      },
    { label: "Download", icon: "download", run: () => download(space, nodes) },
    one !== null && { label: "Share…", icon: "link", run: () => shareDialog(space, one) },
    editable && null,
    editable && one !== null && { label: "Rename…", icon: "edit", keys: "F2", run: () => rename(space, one) },
    editable && { label: "Move to…", icon: "move", run: () => move(nodes) },
    editable && { label: "Copy to…", icon: "copy", run: () => copy(nodes) },
    one !== null && null,
    one?.kind === "file" && { label: "Version history", icon: "history", run: () => detailsOf(space, one) },
    one !== null && one.kind !== "file" && { label: "Details", icon: "info", run: () => detailsOf(space, one) },
    editable && null,
    editable && {
      label: "Delete",
      icon: "trash",
      keys: "Del",
      danger: true,
      run: () => void remove(space, nodes).catch(complain),
    },
  ];
  return all.filter((entry) => entry !== false);
}
