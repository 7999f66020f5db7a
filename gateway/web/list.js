// @ts-check
/** A list of nodes, as rows or tiles: only those in sight are in the page, so that ten thousand are as fast as ten. */

import { h, unseen } from "./dom.js";
import { icon } from "./icons.js";
import { target, Typing } from "./list_keys.js";
import { writeRow } from "./rows.js";
import { Selection } from "./selection.js";

/** @import {Column, ListOptions} from "./rows.js" */

const BESIDE_PX = 400;
const TILE_WIDTH = 168;
const TILE_HEIGHT = 188;
const TILE_GAP = 16;
const narrow = matchMedia("(max-width: 700px), (pointer: coarse)");

export class FileList {
  selection = new Selection();
  /** @type {any[]} */
  items = [];
  #options;
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  /** The state of the node that a row shows. @type {Map<string, string>} */
  #shown = new Map();
  #tiles = false;
  #typing = new Typing();
  #frame = 0;
  /** @type {HTMLElement | null} */
  #scroller = null;
  #stop = new AbortController();

  /** @param {ListOptions} options */
  constructor(options) {
    this.#options = options;
    this.all = h("input", { type: "checkbox", "aria-label": "Select all", on: { change: () => this.#toggleAll() } });
    this.head = h("div", { class: "list-head", role: "row" }, h("div", { class: "cell check", role: "columnheader" }, this.all));
    for (const column of options.columns) this.head.append(this.#headerOf(column));
    this.head.append(h("div", { class: "cell more", role: "columnheader" }, unseen("Actions")));
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.element = h(
      "div",
      { class: "list", role: "grid", "aria-label": options.label, "aria-multiselectable": "true" },
      h("div", { role: "rowgroup" }, this.head),
      this.body,
    );
    this.selection.addEventListener("change", () => this.#dress());
    this.body.addEventListener("click", (event) => this.#clicked(event));
    this.body.addEventListener("dblclick", (event) => this.#doubled(event));
    this.body.addEventListener("contextmenu", (event) => this.#asked(event));
    this.body.addEventListener("keydown", (event) => this.#keyed(event));
    this.body.addEventListener("focusin", (event) => this.#focused(event));
  }

  /** It is in the page now, in something that scrolls. @param {HTMLElement} scroller */
  entered(scroller) {
    this.#scroller = scroller;
    const { signal } = this.#stop;
    scroller.addEventListener("scroll", () => this.#soon(), { signal, passive: true });
    const watch = new ResizeObserver(() => this.#render());
    watch.observe(scroller);
    watch.observe(this.element);
    signal.addEventListener("abort", () => watch.disconnect());
    this.#render();
  }

  /** What the cells tell has changed though the nodes have not. */
  redraw() {
    this.#shown.clear();
    this.#render();
  }

  leave() {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
  }

  get tiles() {
    return this.#tiles;
  }

  set tiles(tiles) {
    this.#tiles = tiles;
    this.element.classList.toggle("tiles", tiles);
    this.#forget();
    this.#render();
  }

  /** @param {any[]} items @param {{by: string, down: boolean}} [order] by which they are sorted */
  show(items, order) {
    const held = this.body.contains(document.activeElement);
    this.items = items;
    this.selection.arrange(items.map(({ id }) => id));
    for (const header of this.head.querySelectorAll("[data-sort]")) {
      const here = order?.by === /** @type {HTMLElement} */ (header).dataset.sort;
      header.setAttribute("aria-sort", here ? (order?.down ? "descending" : "ascending") : "none");
    }
    this.element.setAttribute("aria-rowcount", String(items.length + 1));
    this.#render();
    this.#dress();
    if (held && !this.body.contains(document.activeElement)) this.focus();
  }

  /** @returns {any[]} in the order of the list */
  get selected() {
    return this.items.filter(({ id }) => this.selection.has(id));
  }

  /** The keys come here. */
  focus() {
    const { selection, items } = this;
    if (selection.active === null && items.length) selection.active = items[0].id;
    if (selection.active !== null) this.#goTo(selection.activeIndex);
  }

  /** Scroll to a node, and mark it as the one that is meant. @param {string} id */
  reveal(id) {
    const index = this.selection.indexOf(id);
    if (index < 0) return;
    this.selection.only(id);
    this.#goTo(index);
  }

  /** The item of the row that contains an element, if there is one. @param {EventTarget | null} target */
  nodeAt(target) {
    const row = target instanceof Element ? target.closest(".row") : null;
    const id = row instanceof HTMLElement && this.body.contains(row) ? row.dataset.id : undefined;
    return id === undefined ? null : (this.items[this.selection.indexOf(id)] ?? null);
  }

  /** The items that a key acts on: the selected ones, else the focused one. @returns {any[]} */
  get meant() {
    const { selected } = this;
    const active = this.items[this.selection.activeIndex];
    return selected.length || !active ? selected : [active];
  }

  /** The keys go to a node; what else was selected is not any more. @param {string} id */
  goTo(id) {
    if (this.selection.indexOf(id) < 0) return;
    if (!this.selection.has(id)) this.selection.clear();
    this.selection.moveTo(id);
    this.#goTo(this.selection.activeIndex);
  }

  /** @param {string} id */
  rowOf(id) {
    return this.#rows.get(id) ?? null;
  }

  // ---- the rendered rows ----

  #soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  /** @returns {{columns: number, width: number, height: number, step: number}} */
  get #measures() {
    if (!this.#tiles) return { columns: 1, width: 0, height: narrow.matches ? 60 : 48, step: narrow.matches ? 60 : 48 };
    const whole = this.body.clientWidth || 1;
    const columns = Math.max(narrow.matches ? 2 : 1, Math.floor((whole + TILE_GAP) / (TILE_WIDTH + TILE_GAP)));
    return { columns, width: (whole - TILE_GAP * (columns - 1)) / columns, height: TILE_HEIGHT, step: TILE_HEIGHT + TILE_GAP };
  }

  #render() {
    const scroller = this.#scroller;
    if (!scroller) return;
    const { columns, width, height, step } = this.#measures;
    this.body.style.height = `${Math.ceil(this.items.length / columns) * step}px`;
    const above = scroller.getBoundingClientRect().top - this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((above - BESIDE_PX) / step)) * columns;
    const last = Math.ceil((above + scroller.clientHeight + BESIDE_PX) / step) * columns;
    const wanted = new Set();
    for (let i = first; i < Math.min(last, this.items.length); i += 1) wanted.add(i);
    // The one with the focus stays: else scrolling would lose it.
    if (this.items.length) wanted.add(Math.max(0, this.selection.activeIndex));
    const held = this.body.contains(document.activeElement) ? document.activeElement : null;
    const ids = new Set([...wanted].map((i) => this.items[i].id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
      this.#shown.delete(id);
    }
    // Screen readers read the rows in the order of the document.
    let next = this.body.firstElementChild;
    for (const i of [...wanted].sort((one, other) => one - other)) {
      const row = this.#row(this.items[i], i);
      row.style.height = `${height}px`;
      row.style.top = `${Math.floor(i / columns) * step}px`;
      row.style.left = this.#tiles ? `${(i % columns) * (width + TILE_GAP)}px` : "";
      row.style.width = this.#tiles ? `${width}px` : "";
      if (row === next) next = row.nextElementSibling;
      else this.body.insertBefore(row, next);
    }
    if (held instanceof HTMLElement && held.isConnected && document.activeElement !== held) held.focus({ preventScroll: true });
  }

  #forget() {
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    this.#shown.clear();
  }

  /** @param {any} node @param {number} index */
  #row(node, index) {
    let row = this.#rows.get(node.id);
    const state = `${node.etag} ${node.path ?? ""} ${this.#tiles}`;
    if (!row) {
      row = h("div", { class: "row", role: "row", data: { id: node.id } });
      this.#rows.set(node.id, row);
    }
    if (this.#shown.get(node.id) !== state) {
      this.#shown.set(node.id, state);
      writeRow(row, node, this.#options);
    }
    row.setAttribute("aria-rowindex", String(index + 2));
    this.#dressRow(row, node.id);
    return row;
  }

  #dress() {
    const { size } = this.selection;
    this.all.checked = size > 0 && size === this.items.length;
    this.all.indeterminate = size > 0 && size < this.items.length;
    this.element.classList.toggle("selecting", size > 0);
    for (const [id, row] of this.#rows) this.#dressRow(row, id);
  }

  /** @param {HTMLElement} row @param {string} id */
  #dressRow(row, id) {
    const selected = this.selection.has(id);
    row.setAttribute("aria-selected", String(selected));
    const box = row.querySelector("input");
    if (box) box.checked = selected;
    const { active } = this.selection;
    row.tabIndex = id === (active ?? this.items[0]?.id) ? 0 : -1;
  }

  /** @param {Column} column */
  #headerOf({ id, title, sorts }) {
    const { sort } = this.#options;
    if (!sorts || !sort) return h("div", { class: `cell ${id}`, role: "columnheader" }, title);
    return h(
      "div",
      { class: `cell ${id}`, role: "columnheader", "aria-sort": "none", data: { sort: id } },
      h("button", { type: "button", class: "sort-button", on: { click: () => sort(id) } }, title, icon("arrow")),
    );
  }

  #toggleAll() {
    if (this.all.checked) this.selection.all();
    else this.selection.clear();
  }

  // ---- hands ----

  /** @param {MouseEvent} event */
  #clicked(event) {
    const node = this.nodeAt(event.target);
    const target = /** @type {Element} */ (event.target);
    if (!node) return;
    const touched = /** @type {PointerEvent} */ (event).pointerType === "touch";
    const button = target.closest(".cell.more button");
    if (button instanceof HTMLElement) {
      if (!this.selection.has(node.id)) this.selection.only(node.id);
      this.#options.menu({ anchor: button });
    } else if (target.closest(".cell.check") && !event.shiftKey) {
      this.selection.toggle(node.id);
    } else if (event.shiftKey) {
      event.preventDefault();
      this.selection.extend(node.id);
    } else if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.selection.toggle(node.id);
    } else if (touched && this.selection.size) {
      event.preventDefault();
      this.selection.toggle(node.id);
    } else if (target.closest("a:not(.node-name)")) {
      return;
    } else if (touched || target.closest(".node-name")) {
      event.preventDefault();
      this.selection.moveTo(node.id);
      this.#options.open(node);
    } else {
      this.selection.only(node.id);
    }
    if (!touched) this.rowOf(node.id)?.focus({ preventScroll: true });
  }

  /** @param {MouseEvent} event */
  #doubled(event) {
    const node = this.nodeAt(event.target);
    const plain = !event.shiftKey && !event.ctrlKey && !event.metaKey;
    if (node && plain && !(/** @type {Element} */ (event.target).closest("a, .check, button"))) this.#options.open(node);
  }

  /** @param {MouseEvent} event */
  #asked(event) {
    const node = this.nodeAt(event.target);
    if (!node) return;
    event.preventDefault();
    if (!this.selection.has(node.id)) this.selection.only(node.id);
    const row = this.rowOf(node.id);
    row?.focus({ preventScroll: true });
    // From the keyboard there is no place.
    if (event.clientX || event.clientY) this.#options.menu({ x: event.clientX, y: event.clientY });
    else if (row) this.#options.menu({ anchor: row });
  }

  /** @param {FocusEvent} event */
  #focused(event) {
    const node = this.nodeAt(event.target);
    if (node && event.target === this.rowOf(node.id) && this.selection.active !== node.id) {
      this.selection.active = node.id;
      this.#dress();
    }
  }

  // ---- keys ----

  /** @param {KeyboardEvent} event */
  #keyed(event) {
    if (!(event.target instanceof HTMLElement) || !event.target.matches(".row") || !this.items.length) return;
    const { selection } = this;
    const active = Math.max(0, selection.activeIndex);
    const control = event.ctrlKey || event.metaKey;
    const to = this.#target(event.key, active);
    if (to !== null) {
      const { id } = this.items[Math.max(0, Math.min(to, this.items.length - 1))];
      if (event.shiftKey) selection.extend(id);
      else if (control) selection.moveTo(id);
      else selection.only(id);
      this.#goTo(selection.activeIndex);
    } else if (event.key === " " && !this.#typing.going) selection.toggle(this.items[active].id);
    else if (event.key === "Enter" && !control) this.#options.open(this.items[active]);
    else if (event.key === "a" && control) selection.all();
    else if (event.key === "Escape" && selection.size) selection.clear();
    else if (!this.#options.keys?.(event.key, event) && !this.#find(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {string} key @param {number} now */
  #target(key, now) {
    const { columns, step } = this.#measures;
    const page = Math.max(1, Math.floor((this.#scroller?.clientHeight ?? step) / step) - 2) * columns;
    return target(key, now, { count: this.items.length, columns, page, sideways: this.#tiles });
  }

  /** @param {KeyboardEvent} event */
  #find(event) {
    const from = Math.max(0, this.selection.activeIndex);
    const found = this.#typing.find(event, this.items, from);
    if (found) {
      this.selection.only(found.id);
      this.#goTo(this.selection.activeIndex);
    }
    return found !== null;
  }

  /** @param {number} index */
  #goTo(index) {
    const scroller = this.#scroller;
    if (!scroller || index < 0) return;
    const { columns, height, step } = this.#measures;
    const top = Math.floor(index / columns) * step;
    const above = scroller.getBoundingClientRect().top - this.body.getBoundingClientRect().top;
    // The sticky header covers the rows behind it.
    const covered = parseFloat(getComputedStyle(scroller).scrollPaddingTop) || 0;
    if (top < above + covered) scroller.scrollTop += top - above - covered;
    else if (top + height > above + scroller.clientHeight - 8)
      scroller.scrollTop += top + height - above - scroller.clientHeight + 8;
    this.#render();
    this.rowOf(this.items[index].id)?.focus({ preventScroll: true });
  }
}
