// @ts-check
/** The dialog that changes the password. */

import { openDialog } from "../dialogs.js";
import { h } from "../dom.js";
import { plural } from "../format.js";
import { LEAST_PASSWORD } from "../passwords.js";
import { session } from "../session.js";
import { toast } from "../toasts.js";

/** @import {PasswordChanged} from "../api.js" */

export function passwordDialog() {
  const current = field("current-password", { autofocus: true });
  const next = field("new-password", { "aria-describedby": "new-password-hint" });
  const hint = `At least ${LEAST_PASSWORD} characters; a sentence is easy to keep in mind.`;
  const dialog = openDialog({
    title: "Change your password",
    body: [
      h("p", null, "All your other devices are signed out. Keys for programs end, unless they were made in this browser."),
      // Programs that remember passwords look for the name that goes with them.
      h("input", { type: "email", autocomplete: "username", value: session.me.email, hidden: true, readonly: true }),
      h("label", { class: "field" }, h("span", null, "Current password"), current),
      h("label", { class: "field" }, h("span", null, "New password"), next, h("small", { id: "new-password-hint" }, hint)),
    ],
    buttons: [
      h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Cancel"),
      h("button", { type: "submit", class: "button primary" }, "Change password"),
    ],
    submit: async () => {
      if (!current.value) throw new Error("Enter your current password.");
      if (next.value.length < LEAST_PASSWORD) throw new Error(`The password needs at least ${LEAST_PASSWORD} characters.`);
      toast(["Your password is changed", ...consequences(await session.changePassword(current.value, next.value))].join(". "));
    },
  });
  return dialog;
}

/** @param {"current-password" | "new-password"} what @param {Record<string, unknown>} more */
function field(what, more) {
  return h("input", { type: "password", name: what, autocomplete: what, required: true, maxlength: 1024, ...more });
}

/** What has become of the other devices and of keys. @param {PasswordChanged} changed @returns {string[]} */
function consequences({ ended_device_count, ended_key_count, remaining_key_count, unfinished }) {
  const parts = [];
  if (ended_device_count) parts.push(`${plural(ended_device_count, "other device")} signed out`);
  if (ended_key_count) parts.push(`${plural(ended_key_count, "key")} ended`);
  if (remaining_key_count) parts.push(`${plural(remaining_key_count, "key")} of this browser can still be used`);
  if (unfinished) parts.push("Some devices end in a moment");
  return parts;
}
