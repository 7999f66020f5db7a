// @ts-check
/** What rows of nodes show. */

import { h } from "./dom.js";
import { byName, bytes, kindOf } from "./format.js";
import { nodeIcon } from "./icons.js";
import { time } from "./times.js";
import { contentPath } from "./actions.js";

/** @import {Child} from "./dom.js" */
/** @import {Node} from "./api.js" */
/** @typedef {{by: string, down: boolean}} Order */

/** An image is its own thumbnail, if it is not too much to load. */
const THUMBNAIL_BYTES = 4_000_000;

/**
 * A node's picture and its name, as a link if it leads somewhere.
 * @param {Node} node
 * @param {{href: string | null, below?: Child[], picture?: Element}} what `below` is shown where there is no room for columns
 */
export function nameCell(node, { href, below = [], picture }) {
  const name = [h("bdi", null, node.name)];
  return [
    picture ?? nodeIcon(kindOf(node)),
    h(
      "span",
      { class: "name-text" },
      href
        ? h("a", { class: "node-name", href, tabindex: -1, draggable: "false", title: node.name }, ...name)
        : h("span", { class: "node-name", title: node.name }, ...name),
      below.length > 0 && h("span", { class: "below" }, ...below),
    ),
  ];
}

/** The picture of a tile: an image itself, else its icon. @param {string} space @param {Node} node */
export function tilePicture(space, node) {
  const kind = kindOf(node);
  const box = h("span", { class: "picture" }, nodeIcon(kind));
  if (kind !== "image" || (node.size ?? 0) > THUMBNAIL_BYTES || !node.size) return box;
  const image = h("img", { src: contentPath(space, node, "inline"), alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => box.replaceChildren(image));
  return box;
}

/** @param {Node} node */
export function sizeText(node) {
  return node.kind === "file" ? bytes(node.size ?? 0) : "";
}

/** @param {Node} node @param {string} [who] */
export function changedCell(node, who) {
  return [time(node.committed_at_ms), who ? h("span", { class: "who" }, ` · ${who}`) : null];
}

/**
 * Folders first, then by what was asked for.
 * @template {Node} N
 * @param {Iterable<N>} nodes
 * @param {Order} order
 * @returns {N[]}
 */
export function sorted(nodes, { by, down }) {
  const sign = down ? -1 : 1;
  /** @type {(one: Node, other: Node) => number} */
  const compare =
    by === "size"
      ? (one, other) => (one.size ?? 0) - (other.size ?? 0)
      : by === "changed"
        ? (one, other) => one.committed_at_ms - other.committed_at_ms
        : () => 0;
  return [...nodes].sort(
    (one, other) =>
      Number(other.kind === "directory") - Number(one.kind === "directory") ||
      sign * (compare(one, other) || byName(one.name, other.name)),
  );
}
