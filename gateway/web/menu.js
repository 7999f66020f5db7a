// @ts-check
/** Menus: at a button, or where something was pressed. */

import { h } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @typedef {{label: string, icon?: string, run: () => void, danger?: boolean, keys?: string, checked?: boolean} | null} Entry
 *   null is a line between groups
 */

/** @type {(() => void) | null} */
let closeOpen = null;

/**
 * @param {Entry[]} entries
 * @param {{label: string, anchor?: HTMLElement, x?: number, y?: number, head?: Node}} where
 */
export function openMenu(entries, { label, anchor, x = 0, y = 0, head }) {
  closeOpen?.();
  const opener = anchor ?? document.activeElement;
  const items = entries.map((entry) => (entry ? item(entry) : h("div", { class: "menu-line", role: "separator" })));
  const menu = h("div", { class: "menu", role: "menu", "aria-label": label, tabindex: -1 }, ...items);
  const layer = h("div", { class: "menu-layer", popover: "manual" }, head ?? null, menu);
  // Elements outside of a modal dialog cannot be used while it is open.
  (opener?.closest("dialog[open]") ?? document.body).append(layer);
  layer.showPopover();
  anchor?.setAttribute("aria-expanded", "true");
  place(layer, anchor, x, y);

  const buttons = /** @type {HTMLButtonElement[]} */ (items.filter((one) => one instanceof HTMLButtonElement));
  const outside = (/** @type {Event} */ event) => {
    const within = (/** @type {Node | undefined} */ one) => event.target instanceof Node && one?.contains(event.target);
    if (!within(layer) && !within(anchor)) close(false);
  };
  const left = () => close(false);
  // Not before this press is over: it would close what it has opened.
  setTimeout(() => document.addEventListener("pointerdown", outside, true));
  addEventListener("resize", left);
  addEventListener("popstate", left);
  closeOpen = () => close(false);
  menu.addEventListener("keydown", keyed);
  menu.addEventListener("contextmenu", (event) => event.preventDefault());
  buttons[0]?.focus({ preventScroll: true });

  /** @param {Entry & object} entry */
  function item({ label: text, icon: name, run, danger, keys, checked }) {
    return h(
      "button",
      {
        type: "button",
        role: checked === undefined ? "menuitem" : "menuitemradio",
        "aria-checked": checked === undefined ? null : String(checked),
        class: danger ? "menu-item danger" : "menu-item",
        tabindex: -1,
        on: {
          click: () => {
            close(true);
            run();
          },
          pointermove: (/** @type {PointerEvent} */ event) =>
            /** @type {HTMLElement} */ (event.currentTarget).focus({ preventScroll: true }),
        },
      },
      checked === undefined ? name && icon(name) : checked ? icon("check") : h("span", { class: "icon" }),
      h("span", null, text),
      keys && h("kbd", { "aria-hidden": "true" }, keys),
    );
  }

  /** @param {boolean} back whether the focus goes back to where it was */
  function close(back) {
    if (!layer.isConnected) return;
    document.removeEventListener("pointerdown", outside, true);
    removeEventListener("resize", left);
    removeEventListener("popstate", left);
    closeOpen = null;
    layer.remove();
    anchor?.setAttribute("aria-expanded", "false");
    if (back && opener instanceof HTMLElement && opener.isConnected) opener.focus({ preventScroll: true });
  }

  /** @param {KeyboardEvent} event */
  function keyed(event) {
    const now = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) buttons.at(to % buttons.length)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") close(true);
    else if (event.key.length === 1 && event.key !== " ") begin(event.key.toLowerCase(), now);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** To the next entry that begins with this letter. @param {string} letter @param {number} now */
  function begin(letter, now) {
    const turned = [...buttons.slice(now + 1), ...buttons.slice(0, now + 1)];
    turned.find((button) => button.textContent?.toLowerCase().startsWith(letter))?.focus();
  }
}

/**
 * Below what it belongs to, and within the window.
 * @param {HTMLElement} layer
 * @param {HTMLElement | undefined} anchor
 * @param {number} x
 * @param {number} y
 */
function place(layer, anchor, x, y) {
  const margin = 8;
  const { width, height } = layer.getBoundingClientRect();
  let left = x;
  let top = y;
  if (anchor) {
    const box = anchor.getBoundingClientRect();
    left = box.left + width > innerWidth - margin ? box.right - width : box.left;
    top = box.bottom + 4;
    if (top + height > innerHeight - margin) top = box.top - height - 4;
  }
  layer.style.left = `${Math.max(margin, Math.min(left, innerWidth - width - margin))}px`;
  layer.style.top = `${Math.max(margin, Math.min(top, innerHeight - height - margin))}px`;
}

/**
 * A button that opens a menu.
 * @param {HTMLButtonElement} button
 * @param {string} label
 * @param {() => Entry[]} entries
 * @param {() => Node} [head]
 */
export function opensMenu(button, label, entries, head) {
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    if (button.getAttribute("aria-expanded") === "true") closeOpen?.();
    else openMenu(entries(), { label, anchor: button, head: head?.() });
  });
  return button;
}
