// @ts-check
/** Short messages, each with at most one thing to do about it. */

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { words } from "./words.js";

const SECONDS = 5;
const SECONDS_TO_ACT = 10;
const MOST = 3;

/** They are above dialogs too, so they are in the top layer. */
const region = h("div", { class: "toasts", role: "status", "aria-live": "polite", "aria-label": "Messages", popover: "manual" });

/** What Ctrl+Z undoes. @type {(() => void) | null} */
let latest = null;

/**
 * @param {string} text
 * @param {{action?: string, run?: () => unknown, trouble?: boolean}} [what]
 * @returns {() => void} takes it away
 */
export function toast(text, { action, run, trouble = false } = {}) {
  if (!region.isConnected) document.body.append(region);
  const element = h("div", { class: trouble ? "toast trouble" : "toast" }, trouble && icon("warning"), h("span", null, text));
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(close, (action || trouble ? SECONDS_TO_ACT : SECONDS) * 1000);
  };
  const close = () => {
    clearTimeout(timer);
    if (latest === act) latest = null;
    element.remove();
    if (!region.childElementCount && region.matches(":popover-open")) region.hidePopover();
  };
  const act = () => {
    close();
    void Promise.resolve(run?.()).catch(complain);
  };
  if (action) {
    element.append(h("button", { type: "button", class: "toast-action", on: { click: act } }, action));
    latest = act;
  }
  element.append(
    h("button", { type: "button", class: "toast-close", "aria-label": "Dismiss", on: { click: close } }, icon("close")),
  );
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("pointerleave", wait);
  element.addEventListener("focusin", () => clearTimeout(timer));
  element.addEventListener("focusout", wait);
  while (region.childElementCount >= MOST) region.firstElementChild?.remove();
  // Shown again, they are above a dialog that was opened after them.
  if (region.matches(":popover-open")) region.hidePopover();
  region.showPopover();
  region.append(element);
  wait();
  return close;
}

/** Say what went wrong. @param {unknown} error */
export function complain(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  toast(words(error), { trouble: true });
}

/** Do what the latest message offers. @returns {boolean} whether it offered something */
export function undoLatest() {
  const undo = latest;
  undo?.();
  return undo !== null;
}
