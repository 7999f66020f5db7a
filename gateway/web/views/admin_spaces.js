// @ts-check
/** The shared spaces of the system, as administrators see them: nothing of their contents. */

import { at, call } from "../api.js";
import { askText } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { dateOf, plural, takenOf } from "../format.js";
import { icon } from "../icons.js";
import { time } from "../times.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { button } from "./admin_users.js";
import { loading } from "./blank.js";
import { listing } from "./listing.js";
import { quotaDialog } from "./quota.js";

/** @import {Member, SpaceSummary, User} from "../api.js" */

const PAGE = 50;

/** @param {HTMLElement} part */
export function spacesPart(part) {
  const spaces = listing({ name: "spaces", row: spaceRow, none: "Nobody has made a shared space.", more: "Show more" });
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Shared spaces"),
      h("p", { class: "hint" }, "What is in them stays out of sight."),
      spaces.element,
    ),
  );
  void spaces.show(at`/v1/admin/spaces?page_size=${PAGE}`);
}

/** @param {SpaceSummary} space */
function spaceRow({ space_id, name, owners, created_at_ms, deleted_at_ms, reserved_bytes, quota_bytes }) {
  return h(
    "li",
    { class: "person" },
    icon("space"),
    h(
      "span",
      { class: "person-name" },
      h("a", { class: "quiet-link", href: `/admin/spaces/${space_id}` }, name),
      deleted_at_ms && h("span", { class: "badge" }, "Deleted"),
    ),
    h(
      "span",
      { class: "hint" },
      `${takenOf(reserved_bytes, quota_bytes)}, ${plural(owners, "owner")}, since `,
      time(created_at_ms),
    ),
  );
}

/** The page of one shared space. @param {HTMLElement} part @param {string} id */
export function spacePage(part, id) {
  const head = h("section", null, loading());
  const members = listing({ name: "members", row: memberRow, none: "Nobody is in this space.", more: "Show more" });
  fill(
    part,
    h("p", null, h("a", { href: "/admin/spaces" }, "All shared spaces")),
    head,
    h("section", null, h("h2", null, "Members"), members.element),
  );
  void show();

  async function show() {
    void members.show(at`/v1/admin/spaces/${id}/members?page_size=${PAGE}`);
    try {
      dress(await call("GET", at`/v1/admin/spaces/${id}`));
    } catch (error) {
      fill(head, h("p", { class: "trouble-text", role: "alert" }, words(error)));
    }
  }

  /** @param {SpaceSummary} space */
  function dress({ name, owners, created_at_ms, deleted_at_ms, reserved_bytes, quota_bytes, quota_set, payer_user_id }) {
    fill(
      head,
      h("h2", null, name, deleted_at_ms && h("span", { class: "badge" }, "Deleted")),
      h("p", { class: "hint" }, `${plural(owners, "owner")}, since ${dateOf(created_at_ms)}.`),
      h(
        "p",
        { class: "hint" },
        takenOf(reserved_bytes, quota_bytes),
        quota_set && " (a quota of its own)",
        ...(payer_user_id ? [", which counts for ", h("a", { href: `/admin/users/${payer_user_id}` }, "this owner")] : []),
        ".",
      ),
      h(
        "div",
        { class: "button-row" },
        !deleted_at_ms && button("Make somebody owner", "people", () => ownerDialog(name)),
        button("Set quota", "space", () =>
          quotaDialog({
            whose: `“${name}”`,
            quota: quota_set ? quota_bytes : undefined,
            hint: "The quota of its owner holds as well. What is stored stays, even if it is more.",
            run: async (quota) => {
              dress(await call("PUT", at`/v1/admin/spaces/${id}/quota`, { body: { quota_bytes: quota } }));
              toast(`The quota of “${name}” is set`);
            },
          }),
        ),
      ),
    );
  }

  /** @param {string} name */
  function ownerDialog(name) {
    askText({
      title: `Make somebody owner of “${name}”`,
      label: "E-mail address",
      action: "Make owner",
      hint: "For a space whose owners have left. The members are told by nobody but you.",
      run: async (email) => {
        const user = await userWith(email);
        await call("PUT", at`/v1/admin/spaces/${id}/owners/${user.user_id}`);
        toast(`${user.email} is an owner of “${name}” now`);
        await show();
      },
    });
  }
}

/** The user with an address, in whatever case it is written. @param {string} email @returns {Promise<User>} */
async function userWith(email) {
  const wanted = email.trim().toLowerCase();
  const { users } = await call("GET", at`/v1/admin/users?page_size=${PAGE}&email_prefix=${wanted}`);
  const found = users.find((/** @type {User} */ user) => user.email === wanted && user.proven);
  if (!found) throw new Error("No user has proven that address. Look at the list of users.");
  return found;
}

/** @param {Member} member */
function memberRow({ user_id, email, role }) {
  return h(
    "li",
    { class: "person" },
    h("span", { class: "avatar small", "aria-hidden": "true" }, email.charAt(0).toUpperCase()),
    h("span", { class: "person-name" }, h("a", { class: "quiet-link", href: `/admin/users/${user_id}` }, email)),
    h("span", { class: "hint" }, role),
  );
}
