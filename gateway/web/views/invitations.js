// @ts-check
/** Spaces to which one is invited: accept or decline. */

import { fill, h } from "../dom.js";
import { dateOf } from "../format.js";
import { icon } from "../icons.js";
import { folderPath, router } from "../router.js";
import { session } from "../session.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { blank } from "./blank.js";

/** @import {Invitation, Role} from "../api.js" */
/** @import {View} from "../router.js" */

/** @type {Record<Role, string>} */
const AS = { viewer: "to view", editor: "to edit", owner: "as an owner" };

/** @returns {View} */
export function invitationsView() {
  const list = h("div");
  const stop = new AbortController();
  session.addEventListener("invitations", show, { signal: stop.signal });
  show();
  void session.loadInvitations().catch((error) => fill(list, h("p", { class: "trouble-text", role: "alert" }, words(error))));
  const element = h("section", { class: "page" }, h("div", { class: "bar" }, h("h1", null, "Invitations")), list);
  return { title: "Invitations", element, leave: () => stop.abort() };

  function show() {
    const { invitations } = session;
    fill(
      list,
      invitations.length
        ? h("ul", { class: "people" }, ...invitations.map(row))
        : blank({
            picture: "people",
            title: "No invitations",
            text: "What you are invited to is among your shared spaces already, unless it has to wait for you.",
          }),
    );
  }
}

/** @param {Invitation} invitation */
function row({ space_id, space_name, role, invited_by, expires_at_ms }) {
  const trouble = h("span", { class: "trouble-text", role: "alert" });
  const button = (/** @type {string} */ label, /** @type {string} */ kind, /** @type {() => Promise<void>} */ run) =>
    h(
      "button",
      { type: "button", class: `button ${kind}`, "aria-label": `${label} ${space_name}`, on: { click: () => void act(run) } },
      label,
    );
  const element = h(
    "li",
    { class: "person invitation" },
    icon("space"),
    h(
      "span",
      { class: "person-name" },
      h("strong", null, space_name),
      h("span", { class: "hint" }, ` ${invited_by} invites you ${AS[role]}, until ${dateOf(expires_at_ms)}.`),
      trouble,
    ),
    button("Accept", "primary", async () => {
      const space = await session.accept(space_id);
      toast(`“${space.alias}” is one of your spaces now`);
      router.go(folderPath(space_id));
    }),
    button("Decline", "", async () => {
      await session.decline(space_id);
      toast(`You declined “${space_name}”`);
    }),
  );
  return element;

  /** @param {() => Promise<void>} run */
  async function act(run) {
    fill(trouble);
    try {
      await run();
    } catch (error) {
      fill(trouble, words(error));
      await session.loadInvitations().catch(() => {});
    }
  }
}
