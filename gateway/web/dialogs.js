// @ts-check
/** Dialogs, over the browser's own: focus stays in them, and goes back to where it was. */

import { fill, h, uniqueId } from "./dom.js";
import { icon } from "./icons.js";
import { words } from "./words.js";

/** @import {Child} from "./dom.js" */

/**
 * @typedef {object} Dialog
 * @property {HTMLDialogElement} element
 * @property {Promise<void>} closed
 * @property {() => void} close
 * @property {() => void} hold from now on only a button at the foot closes it
 *
 * @typedef {object} What
 * @property {string} title
 * @property {Child | Child[]} body
 * @property {Child[]} [buttons] at the foot
 * @property {string} [size] "small", "medium", "large" or "side"
 * @property {() => unknown} [submit] the form of the dialog is sent: when this is done the dialog closes, and if it throws it says why
 */

/** @param {What} what @returns {Dialog} */
export function openDialog({ title, body, buttons = [], size = "small", submit }) {
  const heading = uniqueId("dialog");
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const cross = h("button", { type: "button", class: "icon-button", "aria-label": "Close", on: { click: close } }, icon("close"));
  const form = h(
    "form",
    { class: "dialog-form", novalidate: true, on: { submit: (/** @type {SubmitEvent} */ event) => void sent(event) } },
    h("header", { class: "dialog-head" }, h("h2", { id: heading }, title), cross),
    h("div", { class: "dialog-body" }, ...[body].flat(), trouble),
    buttons.length > 0 && h("footer", { class: "dialog-foot" }, ...buttons),
  );
  let held = false;
  const element = h("dialog", { class: `dialog ${size}`, "aria-labelledby": heading }, form);
  const opener = document.activeElement;
  /** @type {() => void} */
  let settle = () => {};
  const closed = /** @type {Promise<void>} */ (new Promise((resolve) => (settle = resolve)));

  element.addEventListener("close", () => {
    element.remove();
    if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    else focusMain();
    settle();
  });
  element.addEventListener("cancel", (event) => held && event.preventDefault());
  pressedOutside(element, () => held || close());
  document.body.append(element);
  element.showModal();
  /** @type {HTMLElement | null} */ (element.querySelector("[autofocus]"))?.focus();
  return { element, closed, close, hold };

  function close() {
    element.close();
  }

  function hold() {
    held = true;
    cross.remove();
  }

  /** @param {SubmitEvent} event */
  async function sent(event) {
    event.preventDefault();
    if (!submit || form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    fill(trouble);
    try {
      if ((await submit()) !== false) close();
    } catch (error) {
      fill(trouble, words(error));
    } finally {
      form.ariaBusy = "false";
    }
  }
}

/** Whether the keys belong to a dialog, even if nothing in it has the focus. */
export function dialogIsOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/** Move the keyboard focus when its element is gone: to the list, or to the element that is shown instead. */
function focusMain() {
  const shown = document.querySelector("main .row[tabindex='0'], main");
  if (shown instanceof HTMLElement) shown.focus({ preventScroll: true });
}

/** Close a dialog by a click outside of it: both ends of the click count, so that selecting text does not close it. */
/** @param {HTMLDialogElement} element @param {() => void} close */
function pressedOutside(element, close) {
  let began = false;
  element.addEventListener("pointerdown", (event) => (began = event.target === element));
  element.addEventListener("click", (event) => {
    if (began && event.target === element) close();
  });
}

/**
 * Ask for a text.
 * @param {object} what
 * @param {string} what.title
 * @param {string} what.label
 * @param {string} what.action what the button says
 * @param {(text: string) => Promise<unknown>} what.run
 * @param {string} [what.value]
 * @param {string} [what.hint]
 * @param {boolean} [what.stem] select only the part of the name before its extension
 * @param {boolean} [what.optional] whether the text may be empty
 */
export function askText({ title, label, action, run, value = "", hint, stem = false, optional = false }) {
  const input = h("input", { type: "text", value, autofocus: true, autocomplete: "off", maxlength: 255, spellcheck: "false" });
  const submit = h("button", { type: "submit", class: "button primary", disabled: !optional && !value.trim() }, action);
  input.addEventListener("input", () => (submit.disabled = !optional && !input.value.trim()));
  const dialog = openDialog({
    title,
    body: h("label", { class: "field" }, h("span", null, label), input, hint && h("small", null, hint)),
    buttons: [h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Cancel"), submit],
    submit: () => (optional || input.value.trim() ? run(input.value.trim()) : false),
  });
  const dot = value.lastIndexOf(".");
  input.setSelectionRange(0, stem && dot > 0 ? dot : value.length);
  return dialog;
}

/**
 * Ask whether something that cannot be undone is meant.
 * @param {{title: string, text: string, action: string, run: () => Promise<unknown>, more?: Child}} what
 */
export function confirm({ title, text, action, run, more = false }) {
  const dialog = openDialog({
    title,
    body: [h("p", null, text), more],
    buttons: [
      h("button", { type: "button", class: "button", autofocus: true, on: { click: () => dialog.close() } }, "Cancel"),
      h("button", { type: "submit", class: "button danger" }, action),
    ],
    submit: run,
  });
  return dialog;
}

/**
 * A choice among a few.
 * @template {string} T
 * @param {{title: string, body: Child | Child[], choices: {value: T, label: string, primary?: boolean}[]}} what
 * @returns {Promise<T | null>} null if the dialog was closed
 */
export function choose({ title, body, choices }) {
  return new Promise((resolve) => {
    /** @type {T | null} */
    let chosen = null;
    const dialog = openDialog({
      title,
      body,
      buttons: choices.map(({ value, label, primary }) =>
        h(
          "button",
          {
            type: "button",
            class: primary ? "button primary" : "button",
            autofocus: primary,
            on: {
              click: () => {
                chosen = value;
                dialog.close();
              },
            },
          },
          label,
        ),
      ),
    });
    void dialog.closed.then(() => resolve(chosen));
  });
}
