// @ts-check
/** People who are invited to a space and have not come yet, for its owners. */

import { at, call, everything } from "../api.js";
import { fill, h } from "../dom.js";
import { dateOf } from "../format.js";
import { icon } from "../icons.js";
import { toast } from "../toasts.js";

/** @import {Invitation, Role} from "../api.js" */

/** @type {Record<Role, string>} */
const ROLES = { viewer: "Can view", editor: "Can edit", owner: "Owner" };

/**
 * The list of people who are invited to a space, and what shows it anew.
 * @param {string} space
 * @param {(error: unknown) => void} failed
 */
export function pendingPart(space, failed) {
  const element = h("div", { class: "pending" });
  return { element, show };

  async function show() {
    /** @type {Invitation[]} */
    const found = await everything(at`/v1/spaces/${space}/invitations`, "invitations");
    fill(element, found.length > 0 && [h("h4", null, "Invited"), h("ul", { class: "people" }, ...found.map(row))]);
  }

  /** @param {Invitation} invitation */
  function row({ email, role, expires_at_ms }) {
    return h(
      "li",
      { class: "person" },
      h("span", { class: "avatar small", "aria-hidden": "true" }, email.charAt(0).toUpperCase()),
      h("span", { class: "person-name" }, email, h("span", { class: "hint" }, ` until ${dateOf(expires_at_ms)}`)),
      h("span", { class: "hint" }, ROLES[role]),
      h(
        "button",
        {
          type: "button",
          class: "icon-button small",
          "aria-label": `Revoke the invitation of ${email}`,
          title: "Revoke the invitation",
          on: { click: () => void revoke(email) },
        },
        icon("close"),
      ),
    );
  }

  /** @param {string} email */
  async function revoke(email) {
    try {
      await call("DELETE", at`/v1/spaces/${space}/invitations/${email}`);
      toast(`${email} is not invited any more`);
    } catch (error) {
      failed(error);
    }
    await show().catch(failed);
  }
}
