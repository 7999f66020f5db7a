// @ts-check
/** The users of the system, as administrators see and change them. */

import { at, call } from "../api.js";
import { confirm, openDialog } from "../dialogs.js";
import { debounced, fill, h } from "../dom.js";
import { dateOf, plural, takenOf } from "../format.js";
import { icon } from "../icons.js";
import { router } from "../router.js";
import { session } from "../session.js";
import { time } from "../times.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";
import { listing } from "./listing.js";
import { shownOnce } from "./once.js";
import { quotaDialog } from "./quota.js";

/** @import {Device, SignedOutDevices, User, UserSpace} from "../api.js" */
/** @import {Child} from "../dom.js" */

const TYPED_MS = 250;
const PAGE = 50;

/** @type {[string, string][]} */
const STATES = [
  ["", "All users"],
  ["administrator", "Administrators"],
  ["suspended", "Suspended"],
  ["unproven", "Address not proven"],
];

/** @param {HTMLElement} part */
export function usersPart(part) {
  const beginning = h("input", {
    type: "text",
    class: "filter-text",
    placeholder: "Beginning of the address",
    "aria-label": "Beginning of the address",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 254,
  });
  const state = h(
    "select",
    { class: "filter-choice", "aria-label": "State of the users" },
    ...STATES.map(([value, label]) => h("option", { value }, label)),
  );
  const users = listing({ name: "users", row: userRow, none: "There are no such users.", more: "Show more" });
  const again = () => {
    const path = at`/v1/admin/users?page_size=${PAGE}&email_prefix=${beginning.value.trim()}`;
    return users.show(state.value ? `${path}&state=${state.value}` : path);
  };
  beginning.addEventListener(
    "input",
    debounced(TYPED_MS, () => void again()),
  );
  state.addEventListener("change", () => void again());
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Users"),
      h(
        "div",
        { class: "filters" },
        beginning,
        state,
        h("button", { type: "button", class: "button primary", on: { click: inviteDialog } }, icon("plus"), "Invite"),
      ),
      users.element,
    ),
  );
  void again();
}

/** @param {User} user */
function userRow(user) {
  return h(
    "li",
    { class: "person" },
    h("span", { class: "avatar small", "aria-hidden": "true" }, user.email.charAt(0).toUpperCase()),
    h(
      "span",
      { class: "person-name" },
      h("a", { class: "quiet-link", href: `/admin/users/${user.user_id}` }, user.email),
      ...badges(user),
    ),
    h("span", { class: "hint" }, "since ", time(user.created_at_ms)),
  );
}

/** @param {User} user @returns {Child[]} */
function badges({ user_id, admin, guest, proven, suspension }) {
  const texts = [
    user_id === session.me.user_id && "You",
    admin && "Administrator",
    guest && "Guest",
    !proven && "Address not proven",
    suspension && "Suspended",
  ];
  return texts.map((text) => text && h("span", { class: "badge" }, text));
}

function inviteDialog() {
  const email = h("input", { type: "email", autocomplete: "off", required: true, maxlength: 254, autofocus: true });
  const mail = h("input", { type: "checkbox", checked: true });
  const made = h("div", { class: "made" });
  const dialog = openDialog({
    title: "Invite somebody",
    body: [
      h("p", null, "With an invitation the owner of the address makes an account, whoever may come in otherwise."),
      h("label", { class: "field" }, h("span", null, "E-mail address"), email),
      h("label", { class: "choice" }, mail, h("span", null, "Mail it. Otherwise you get a link to pass on.")),
      made,
    ],
    buttons: [
      h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Close"),
      h("button", { type: "submit", class: "button primary" }, "Invite"),
    ],
    submit: async () => {
      if (!email.value || !email.validity.valid) throw new Error("Enter an e-mail address, such as ben@example.com.");
      const invitation = await call("POST", "/v1/admin/invitations", { body: { email: email.value, mail: mail.checked } });
      if (!invitation.url) {
        toast(`${email.value} is invited by mail`);
        return true;
      }
      const hint = `For ${email.value}, until ${dateOf(invitation.expires_at_ms)}. It is shown only now.`;
      shownOnce(made, { label: "Link of the invitation", text: invitation.url, hint });
      return false;
    },
  });
  return dialog;
}

/** The page of one user. @param {HTMLElement} part @param {string} id */
export function userPage(part, id) {
  const head = h("section", null, loading());
  const spaces = listing({ name: "spaces", row: spaceRow, none: "The user is in no space.", more: "Show more" });
  const devices = listing({ name: "devices", row: deviceRow, none: "The user has no devices.", more: "Show more" });
  fill(
    part,
    h("p", null, h("a", { href: "/admin" }, "All users")),
    head,
    h("section", null, h("h2", null, "Spaces"), spaces.element),
    h("section", null, h("h2", null, "Devices and keys"), devices.element),
  );
  void show();
  void spaces.show(at`/v1/admin/users/${id}/spaces?page_size=${PAGE}`);
  void devices.show(at`/v1/admin/users/${id}/devices?page_size=${PAGE}`);

  async function show() {
    try {
      dress(await call("GET", at`/v1/admin/users/${id}`));
    } catch (error) {
      fill(head, h("p", { class: "trouble-text", role: "alert" }, words(error)));
    }
  }

  /** @param {User} user */
  function dress(user) {
    const { email, created_at_ms, suspension, usage, quota_set } = user;
    fill(
      head,
      h("h2", null, email, ...badges(user)),
      h("p", { class: "hint" }, `Since ${dateOf(created_at_ms)}.`),
      h(
        "p",
        { class: "hint" },
        `${takenOf(usage.reserved_bytes, usage.quota_bytes)} in the spaces that count for this user`,
        quota_set ? " (a quota of its own)." : ".",
      ),
      suspension &&
        h("p", null, `Suspended since ${dateOf(suspension.since_ms)}${suspension.reason ? `: ${suspension.reason}` : "."}`),
      h("div", { class: "button-row" }, ...actions(user)),
      h(
        "p",
        null,
        h("a", { href: `/admin/audit?involving=${encodeURIComponent(email)}` }, "What the audit log has about this user"),
      ),
    );
  }

  /** @param {User} user */
  function actions({ email, admin, suspension, usage, quota_set }) {
    const quota = quota_set ? usage.quota_bytes : undefined;
    return [
      suspension
        ? button("Resume", "play", () => change("DELETE", "suspension", undefined, `${email} is not suspended any more`))
        : button("Suspend", "pause", () => suspendDialog(email)),
      button("Sign out everywhere", "signOut", () => signOutDialog(email)),
      id !== session.me.user_id && button("Remove second factor", "key", () => factorDialog(email)),
      button("Set quota", "space", () =>
        quotaDialog({
          whose: email,
          quota,
          hint: "For all spaces that count for this user together. What is stored stays, even if it is more.",
          run: (quota_bytes) => change("PUT", "quota", { quota_bytes }, `The quota of ${email} is set`),
        }),
      ),
      admin
        ? button("Make ordinary user", "people", () => administratorDialog(email, false))
        : button("Make administrator", "people", () => administratorDialog(email, true)),
    ];
  }

  /** @param {string} method @param {string} what @param {unknown} body @param {string} done */
  async function change(method, what, body, done) {
    dress(await call(method, at`/v1/admin/users/${id}/${what}`, { body }));
    toast(done);
  }

  /** @param {string} email */
  function suspendDialog(email) {
    const reason = h("input", { type: "text", maxlength: 300, autocomplete: "off" });
    confirm({
      title: "Suspend this user?",
      text: `${email} cannot sign in, and all devices, keys and public links of this user are refused until you resume the user.`,
      action: "Suspend",
      more: h("label", { class: "field" }, h("span", null, "Reason, for administrators"), reason),
      run: () => change("PUT", "suspension", { reason: reason.value }, `${email} is suspended`),
    });
  }

  /** @param {string} email */
  function signOutDialog(email) {
    const keys = h("input", { type: "checkbox" });
    confirm({
      title: "Sign this user out everywhere?",
      text: `${email} has to sign in again on every device.`,
      action: "Sign out",
      more: h("label", { class: "choice" }, keys, h("span", null, "End the keys of programs, too")),
      run: async () => {
        /** @type {SignedOutDevices} */
        const ended = await call("POST", at`/v1/admin/users/${id}/sign-out`, { body: { end_keys: keys.checked } });
        toast(`${plural(ended.device_count, "device")} signed out, ${plural(ended.key_count, "key")} ended`);
        await devices.show(at`/v1/admin/users/${id}/devices?page_size=${PAGE}`);
      },
    });
  }

  /** @param {string} email */
  function factorDialog(email) {
    confirm({
      title: "Remove the second factor?",
      text: `The password alone signs ${email} in afterwards. Be sure who asks for this. A mail tells the user.`,
      action: "Remove",
      run: async () => {
        const { removed } = await call("DELETE", at`/v1/admin/users/${id}/factor`);
        toast(removed ? `The second factor of ${email} is removed` : `${email} has no second factor`);
      },
    });
  }

  /** @param {string} email @param {boolean} admin */
  function administratorDialog(email, admin) {
    confirm({
      title: admin ? "Make this user an administrator?" : "Make this administrator an ordinary user?",
      text: admin ? `${email} can do everything that you can do here.` : `${email} cannot see these pages any more.`,
      action: admin ? "Make administrator" : "Make ordinary user",
      run: async () => {
        await change("PUT", "administrator", { admin }, `${email} is ${admin ? "an administrator" : "an ordinary user"} now`);
        if (id !== session.me.user_id) return;
        await session.loadAccount();
        router.go("/");
      },
    });
  }
}

/** A button of a row of buttons. @param {string} label @param {string} picture @param {() => unknown} click */
export function button(label, picture, click) {
  return h("button", { type: "button", class: "button", on: { click } }, icon(picture), label);
}

/** @param {UserSpace} space */
function spaceRow({ space_id, name, role, personal }) {
  return h(
    "li",
    { class: "person" },
    icon(personal ? "folder" : "space"),
    h(
      "span",
      { class: "person-name" },
      personal ? "Personal space" : h("a", { class: "quiet-link", href: `/admin/spaces/${space_id}` }, name),
    ),
    h("span", { class: "hint" }, role),
  );
}

/** @param {Device} device */
function deviceRow({ name, kind, last_seen_at_ms, created_at_ms, revoked_at_ms }) {
  return h(
    "li",
    { class: "person" },
    icon(kind === "program" ? "key" : kind === "browser" ? "globe" : "device"),
    h(
      "span",
      { class: "person-name" },
      name,
      revoked_at_ms && h("span", { class: "badge" }, kind === "program" ? "Ended" : "Signed out"),
    ),
    h("span", { class: "hint" }, last_seen_at_ms ? "last used " : "since ", time(last_seen_at_ms || created_at_ms)),
  );
}
