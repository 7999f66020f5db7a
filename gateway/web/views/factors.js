// @ts-check
/** The second factor in the settings: an authenticator app is added, and removed. */

import { call } from "../api.js";
import { openDialog } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { dateOf, plural } from "../format.js";
import { icon } from "../icons.js";
import { session } from "../session.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { copyText } from "./once.js";

/** @import {Factor, NewFactor} from "../api.js" */

/** The part of the settings that shows whether there is a second factor. */
export function factorPart() {
  const state = h("p", null, "\u2026");
  const buttons = h("div", { class: "button-row" });
  void show();
  return h("section", null, h("h2", null, "Second factor"), state, buttons);

  async function show() {
    try {
      const { factors } = await call("GET", "/v1/factors");
      dress(factors[0]);
    } catch (error) {
      fill(state, words(error));
    }
  }

  /** @param {Factor | undefined} factor */
  function dress(factor) {
    if (factor) {
      const left = plural(factor.recovery_codes_left, "recovery code");
      fill(state, `Signing in needs a code of your authenticator app, since ${dateOf(factor.added_at_ms)}. ${left} left.`);
      fill(
        buttons,
        button("Remove second factor", () => removeDialog(show)),
      );
    } else {
      fill(state, "Your password alone signs in. With an authenticator app on your phone, a stolen password is not enough.");
      fill(
        buttons,
        button("Add authenticator app", () => addDialog(show)),
      );
    }
  }
}

/** @param {string} label @param {() => unknown} click */
function button(label, click) {
  return h("button", { type: "button", class: "button", on: { click } }, icon("key"), label);
}

/** The dialog of three steps: the password, the app, and the recovery codes. @param {() => unknown} changed */
function addDialog(changed) {
  const password = passwordField();
  const code = codeField("Code that the app shows");
  const next = h("button", { type: "submit", class: "button primary" }, "Continue");
  const cancel = h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Cancel");
  const body = h("div", { class: "stacked" }, h("p", null, "Confirm that it is you."), ...passwordParts(password));
  let step = askPassword;
  const dialog = openDialog({ title: "Add an authenticator app", body, buttons: [cancel, next], submit: () => step() });
  return dialog;

  async function askPassword() {
    if (!password.value) throw new Error("Enter your password.");
    showApp(await call("POST", "/v1/factors", { body: { password: password.value } }));
    step = askCode;
    return false;
  }

  /** @param {NewFactor} made */
  function showApp(made) {
    const picture = URL.createObjectURL(new Blob([made.qr], { type: "image/svg+xml" }));
    void dialog.closed.then(() => URL.revokeObjectURL(picture));
    fill(
      body,
      h("p", null, "Scan this by the app, or enter the secret there. Then enter the code that it shows."),
      h("img", { class: "qr", src: picture, alt: "QR code of the secret", width: 220, height: 220 }),
      h("p", { class: "secret" }, "Secret: ", h("code", null, made.secret)),
      labelled("Code that the app shows", code),
    );
    code.focus();
  }

  async function askCode() {
    if (!code.value.trim()) throw new Error("Enter the code that the app shows.");
    const { recovery_codes } = await call("POST", "/v1/factors/confirm", { body: { code: code.value } });
    showRecoveryCodes(recovery_codes);
    step = async () => true;
    return false;
  }

  /** @param {string[]} codes */
  function showRecoveryCodes(codes) {
    fill(
      body,
      h("p", null, "From now on, signing in needs a code of the app. Keep these recovery codes where you find them without it:"),
      h("ul", { class: "recovery-codes" }, ...codes.map((one) => h("li", null, h("code", null, one)))),
      h("p", { class: "hint" }, "Each works once in place of a code. They are not shown again."),
    );
    dialog.hold();
    cancel.replaceWith(
      h("button", { type: "button", class: "button", on: { click: () => void copyCodes(codes) } }, icon("copy"), "Copy"),
    );
    fill(next, "I have kept them");
    next.focus();
    void changed();
  }
}

/** @param {string[]} codes */
async function copyCodes(codes) {
  // Pages of plain http may not write to the clipboard; the user may.
  if (!(await copyText(codes.join("\n")))) toast("Select the codes and copy them");
}

/** @param {() => unknown} changed */
function removeDialog(changed) {
  const password = passwordField();
  const code = codeField("Code of the app, or a recovery code");
  const dialog = openDialog({
    title: "Remove your second factor",
    body: [
      h("p", null, "Your password alone signs in afterwards."),
      ...passwordParts(password),
      labelled("Code of the app, or a recovery code", code),
    ],
    buttons: [
      h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Cancel"),
      h("button", { type: "submit", class: "button danger" }, "Remove"),
    ],
    submit: async () => {
      if (!password.value) throw new Error("Enter your password.");
      if (!code.value.trim()) throw new Error("Enter a code of the app, or a recovery code.");
      await call("POST", "/v1/factors/remove", { body: { password: password.value, code: code.value } });
      toast("Your second factor is removed");
      void changed();
    },
  });
  return dialog;
}

/** The field for the password, after a hidden one for the address. @param {HTMLInputElement} password */
function passwordParts(password) {
  // Programs that remember passwords look for the name that goes with them.
  const user = h("input", { type: "email", autocomplete: "username", value: session.me.email, hidden: true, readonly: true });
  return [user, labelled("Your password", password)];
}

function passwordField() {
  return h("input", {
    type: "password",
    name: "password",
    autocomplete: "current-password",
    required: true,
    maxlength: 1024,
    autofocus: true,
  });
}

/** A field for a code of the second factor. @param {string} label */
export function codeField(label) {
  return h("input", {
    type: "text",
    name: "code",
    autocomplete: "one-time-code",
    autocapitalize: "none",
    spellcheck: "false",
    maxlength: 64,
    "aria-label": label,
  });
}

/** @param {string} label @param {HTMLInputElement} field */
function labelled(label, field) {
  return h("label", { class: "field" }, h("span", null, label), field);
}
