// @ts-check
/** Who is a member of a space, in which role, and who is invited. */

import { at, call } from "../api.js";
import { confirm } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { router } from "../router.js";
import { session } from "../session.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";
import { pendingPart } from "./pending.js";

/** @import {Invitation, Member, Role} from "../api.js" */

/** @type {[Role, string][]} */
const ROLES = [
  ["viewer", "Can view"],
  ["editor", "Can edit"],
  ["owner", "Owner"],
];

/** @param {HTMLElement} part @param {string} space @param {string} name */
export function peoplePart(part, space, name) {
  const owner = session.space(space)?.role === "owner";
  const list = h("ul", { class: "people" }, h("li", null, loading()));
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const email = h("input", {
    type: "email",
    placeholder: "E-mail address",
    "aria-label": "E-mail address of the person to add",
    autocomplete: "off",
    maxlength: 254,
  });
  const role = roleSelect("editor", "Role of the person to add");
  const pending = pendingPart(space, failed);
  const add = h("button", { type: "button", class: "button primary", on: { click: () => void invite() } }, "Add");
  email.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    void invite();
  });
  fill(
    part,
    h("h3", null, `People in ${name}`),
    owner ? h("div", { class: "invite" }, email, role, add) : h("p", { class: "hint" }, "Owners of the space can add people."),
    trouble,
    list,
    owner && pending.element,
  );
  void show().catch(failed);

  async function show() {
    session.forgetMembers(space);
    const members = await session.members(space);
    fill(list, ...members.map(row));
    if (owner) await pending.show();
  }

  /** @param {Member} member */
  function row(member) {
    const me = member.user_id === session.me.user_id;
    const change = roleSelect(member.role, `Role of ${member.email}`);
    change.addEventListener("change", () => void set(member.email, /** @type {Role} */ (change.value)));
    const leave = owner || me;
    return h(
      "li",
      { class: "person" },
      h("span", { class: "avatar small", "aria-hidden": "true" }, member.email.charAt(0).toUpperCase()),
      h("span", { class: "person-name" }, member.email, me && h("span", { class: "badge" }, "You")),
      owner ? change : h("span", { class: "hint" }, ROLES.find(([value]) => value === member.role)?.[1] ?? member.role),
      leave &&
        h(
          "button",
          {
            type: "button",
            class: "icon-button small",
            "aria-label": me ? "Leave the space" : `Remove ${member.email}`,
            title: me ? "Leave the space" : "Remove",
            on: { click: () => remove(member) },
          },
          icon("close"),
        ),
    );
  }

  async function invite() {
    fill(trouble);
    if (!email.value.trim() || !email.validity.valid) {
      fill(trouble, "Enter an e-mail address, such as ben@example.com.");
      email.focus();
      return;
    }
    const given = await set(email.value.trim(), /** @type {Role} */ (role.value));
    if (given) {
      const is = "user_id" in given ? `is in “${name}” now` : `is invited to “${name}” by mail`;
      toast(`${given.email} ${is}`);
      email.value = "";
    }
    email.focus();
  }

  /** @param {string} who @param {Role} as */
  async function set(who, as) {
    fill(trouble);
    try {
      /** @type {Member | Invitation} */
      const given = await call("PUT", at`/v1/spaces/${space}/members/${who}`, { body: { role: as } });
      await show();
      return given;
    } catch (error) {
      failed(error);
      await show().catch(failed);
      return null;
    }
  }

  /** @param {Member} member */
  function remove(member) {
    const me = member.user_id === session.me.user_id;
    confirm({
      title: me ? "Leave the space?" : "Remove this person?",
      text: me
        ? `“${name}” will not be shown to you any more, until an owner adds you again.`
        : `${member.email} will not see “${name}” any more. What they added stays.`,
      action: me ? "Leave" : "Remove",
      run: async () => {
        await call("DELETE", at`/v1/spaces/${space}/members/${member.email}`);
        if (!me) return show();
        part.closest("dialog")?.close();
        router.go("/");
        await session.loadSpaces();
        return undefined;
      },
    });
  }

  /** @param {unknown} error */
  function failed(error) {
    fill(trouble, words(error));
  }
}

/** @param {Role} chosen @param {string} label */
function roleSelect(chosen, label) {
  return h(
    "select",
    { "aria-label": label },
    ...ROLES.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
}
