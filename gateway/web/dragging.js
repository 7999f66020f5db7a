// @ts-check
/** Drag and drop: nodes onto folders, and files from outside onto the page. */

import { h } from "./dom.js";
import { plural } from "./format.js";

/** @import {Node} from "./api.js" */
/** @typedef {{id: string, name: string}} Target */

const NODES = "application/x-syncline-nodes";
const HOVER_MS = 900;

/** The nodes being dragged, if the drag began on this page. @type {Node[]} */
let dragged = [];

/**
 * Let nodes be dragged away.
 * @param {HTMLElement} element
 * @param {(event: DragEvent) => Node[]} grab the nodes to drag
 */
export function dragsNodes(element, grab) {
  element.addEventListener("dragstart", (event) => {
    dragged = grab(event);
    if (!dragged.length || !event.dataTransfer) return event.preventDefault();
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData(NODES, dragged.map(({ id }) => id).join(" "));
    const ghost = h("div", { class: "drag-ghost" }, dragged.length === 1 ? dragged[0].name : plural(dragged.length, "item"));
    document.body.append(ghost);
    event.dataTransfer.setDragImage(ghost, 12, 12);
    setTimeout(() => ghost.remove());
    document.body.classList.add("dragging");
    return undefined;
  });
  element.addEventListener("dragend", () => {
    dragged = [];
    document.body.classList.remove("dragging");
  });
}

/**
 * @typedef {object} Drops
 * @property {(event: DragEvent) => {element: Element, folder: Target} | null} target the folder at the pointer
 * @property {(nodes: Node[], to: Target) => void} [nodes]
 * @property {(files: DataTransfer, to: Target) => void} [files]
 * @property {(to: Target) => void} [hover] the pointer stays there
 */

/**
 * Accept dropped nodes and files.
 * @param {HTMLElement} element
 * @param {Drops} drops
 */
export function takesDrops(element, { target, nodes, files, hover }) {
  /** @type {Element | null} */
  let marked = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const mark = (/** @type {Element | null} */ next, /** @type {Target | null} */ folder) => {
    if (next === marked) return;
    marked?.classList.remove("drop-here");
    next?.classList.add("drop-here");
    marked = next;
    clearTimeout(timer);
    if (next && folder && hover) timer = setTimeout(() => hover(folder), HOVER_MS);
  };
  const over = (/** @type {DragEvent} */ event) => {
    const kind = kindOf(event);
    const found = target(event);
    const takes = found && (kind === "files" ? files : kind === "nodes" && nodes && mayMove(found.folder));
    mark(takes ? found.element : null, takes ? found.folder : null);
    if (!takes || !event.dataTransfer) return;
    event.preventDefault();
    event.stopPropagation();
    event.dataTransfer.dropEffect = kind === "files" ? "copy" : "move";
  };
  element.addEventListener("dragenter", over);
  element.addEventListener("dragover", over);
  element.addEventListener("dragleave", (event) => {
    if (!(event.relatedTarget instanceof Element && element.contains(event.relatedTarget))) mark(null, null);
  });
  element.addEventListener("drop", (event) => {
    const found = target(event);
    mark(null, null);
    if (!found || !event.dataTransfer) return;
    event.preventDefault();
    event.stopPropagation();
    if (kindOf(event) === "files") files?.(event.dataTransfer, found.folder);
    else if (mayMove(found.folder)) nodes?.(dragged, found.folder);
  });
}

/** @param {Target} folder */
function mayMove(folder) {
  return dragged.length > 0 && dragged.some(({ parent }) => parent !== folder.id) && !dragged.some(({ id }) => id === folder.id);
}

/** @param {DragEvent} event */
function kindOf(event) {
  const types = event.dataTransfer?.types ?? [];
  if (types.includes(NODES)) return "nodes";
  return types.includes("Files") ? "files" : "";
}

/**
 * All dropped files, including those in dropped folders. To be called at once: the data of a drop are available only during its event.
 * @param {DataTransfer} dropped
 * @returns {Promise<{files: {file: File, path: string}[], directories: string[]}>}
 */
export async function filesOf(dropped) {
  const entries = [...dropped.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  const plain = [...dropped.files];
  /** @type {{file: File, path: string}[]} */
  const files = [];
  /** @type {string[]} */
  const directories = [];
  if (!entries.some(Boolean)) return { files: plain.map((file) => ({ file, path: file.name })), directories };
  /** @param {FileSystemEntry} entry */
  const walk = async (entry) => {
    const path = entry.fullPath.replace(/^\//, "");
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
      files.push({ file, path });
    } else {
      directories.push(path);
      for (const child of await childrenOf(/** @type {FileSystemDirectoryEntry} */ (entry))) await walk(child);
    }
  };
  for (const entry of entries) if (entry) await walk(entry);
  return { files, directories };
}

/** @param {FileSystemDirectoryEntry} directory */
async function childrenOf(directory) {
  const reader = directory.createReader();
  /** @type {FileSystemEntry[]} */
  const children = [];
  // A reader tells some at a time, and nothing once it has told all.
  for (;;) {
    const some = /** @type {FileSystemEntry[]} */ (await new Promise((resolve, reject) => reader.readEntries(resolve, reject)));
    if (!some.length) return children;
    children.push(...some);
  }
}
