// @ts-check
/** A text that is shown once, to be copied. */

import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { toast } from "../toasts.js";

/** @param {HTMLElement} where @param {{label: string, text: string, hint: string}} what */
export function shownOnce(where, { label, text, hint }) {
  const field = h("input", {
    type: "text",
    readonly: true,
    value: text,
    "aria-label": label,
    on: { focus: () => field.select() },
  });
  const button = h(
    "button",
    { type: "button", class: "button primary", on: { click: () => void copy(field) } },
    icon("copy"),
    "Copy",
  );
  fill(where, h("div", { class: "once" }, h("div", { class: "once-row" }, field, button), h("p", { class: "hint" }, hint)));
  button.focus();
}

/** @param {string} text @returns {Promise<boolean>} whether the clipboard has it now */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
    return true;
  } catch {
    return false;
  }
}

/** @param {HTMLInputElement} field */
async function copy(field) {
  if (!(await copyText(field.value))) {
    // Pages of plain http may not write to the clipboard; the user may.
    field.focus();
    field.select();
    toast("Press Ctrl+C to copy what is marked");
  }
}
