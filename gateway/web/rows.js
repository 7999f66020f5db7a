// @ts-check
/** One row of a list. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

/** @import {Child} from "./dom.js" */
/** @import {Node} from "./api.js" */

/**
 * @typedef {object} Column
 * @property {string} id
 * @property {string} title
 * @property {boolean} [sorts]
 * @property {(node: any) => Child | Child[]} cell
 *
 * @typedef {object} ListOptions
 * @property {string} label
 * @property {Column[]} columns the first one is the name
 * @property {(node: any) => void} open
 * @property {(at: {x: number, y: number} | {anchor: HTMLElement}) => void} menu for the selected items
 * @property {(key: string, event: KeyboardEvent) => boolean} [keys] other keys; whether it was one
 * @property {(by: string) => void} [sort]
 * @property {boolean} [draggable]
 */

/**
 * Write what a row shows.
 * @param {HTMLElement} row
 * @param {Node} node
 * @param {ListOptions} options
 */
export function writeRow(row, node, { columns, draggable }) {
  const name = node.name;
  const box = h("input", { type: "checkbox", tabindex: -1, "aria-label": `Select ${name}` });
  const actions = {
    type: "button",
    class: "icon-button",
    tabindex: -1,
    "aria-label": `Actions for ${name}`,
    "aria-haspopup": "menu",
  };
  const held = row.contains(document.activeElement) && document.activeElement !== row;
  if (draggable) row.draggable = true;
  fill(
    row,
    h("div", { class: "cell check", role: "gridcell" }, box),
    ...columns.map((column, i) =>
      h("div", { class: `cell ${column.id}`, role: i ? "gridcell" : "rowheader" }, ...[column.cell(node)].flat()),
    ),
    h("div", { class: "cell more", role: "gridcell" }, h("button", actions, icon("more"))),
  );
  if (held) row.focus();
}
