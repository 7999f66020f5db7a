// @ts-check
/** Settings: looks, mail, devices, keys, deleted spaces. */

import { at, call } from "../api.js";
import { fill, h } from "../dom.js";
import { takenOf } from "../format.js";
import { icon } from "../icons.js";
import { setTheme, theme } from "../preferences.js";
import { session } from "../session.js";
import { spaceTitle } from "../space_title.js";
import { complain, toast } from "../toasts.js";
import { words } from "../words.js";
import { deletedSpacesPart } from "./deleted_spaces.js";
import { devicesPart } from "./devices.js";
import { factorPart } from "./factors.js";
import { keysPart } from "./keys.js";
import { passwordDialog } from "./password.js";
import { sectionsView } from "./sections.js";

/** @import {Space} from "../api.js" */
/** @import {Theme} from "../preferences.js" */
/** @import {Place, View} from "../router.js" */
/** @import {Section} from "./sections.js" */

/** @type {Section[]} */
const SECTIONS = [
  ["general", "General", "settings", generalPart],
  ["notifications", "Notifications", "bell", notificationsPart],
  ["devices", "Devices", "device", devicesPart],
  ["keys", "Keys for programs", "key", keysPart],
  ["deleted", "Deleted spaces", "trash", deletedSpacesPart],
];

/** @param {Place} place @returns {View} */
export function settingsView({ params: { section = "general" } }) {
  return sectionsView({ title: "Settings", base: "/settings", sections: SECTIONS, section });
}

/** @param {HTMLElement} part */
function generalPart(part) {
  const usage = h("p", { class: "hint" });
  void call("GET", "/v1/session")
    .then(({ usage: { reserved_bytes, quota_bytes } }) =>
      fill(usage, `${takenOf(reserved_bytes, quota_bytes)} in the spaces that you have made or taken over, together.`),
    )
    .catch((error) => fill(usage, words(error)));
  /** @type {[Theme, string][]} */
  const themes = [
    ["system", "As the system has it"],
    ["light", "Light"],
    ["dark", "Dark"],
  ];
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Account"),
      h("p", null, "Signed in as ", h("strong", null, session.me.email), ` on ${session.device?.name ?? "this device"}.`),
      usage,
      session.me.guest &&
        h(
          "p",
          { class: "hint" },
          "You are a guest: you work in the spaces of others, and have no space, links or keys of your own.",
        ),
      h(
        "div",
        { class: "button-row" },
        h(
          "button",
          { type: "button", class: "button", on: { click: () => void passwordDialog() } },
          icon("key"),
          "Change password",
        ),
        h(
          "button",
          { type: "button", class: "button", on: { click: () => void session.signOut().catch(complain) } },
          icon("signOut"),
          "Sign out",
        ),
      ),
    ),
    session.me.proven && factorPart(),
    h(
      "section",
      null,
      h(
        "fieldset",
        { class: "choices" },
        h("legend", null, "Appearance"),
        ...themes.map(([value, label]) =>
          h(
            "label",
            { class: "choice" },
            h("input", {
              type: "radio",
              name: "theme",
              value,
              checked: theme() === value,
              on: { change: () => setTheme(value) },
            }),
            h("span", null, label),
          ),
        ),
      ),
    ),
    h(
      "section",
      null,
      h("h2", null, "On your computer"),
      h("p", null, "The command line keeps a folder in step with a space:"),
      h(
        "pre",
        { class: "command", tabindex: 0 },
        `syncline login --endpoint ${location.origin} --email ${session.me.email} --password-stdin\nsyncline sync ~/Syncline --watch`,
      ),
      h("p", { class: "hint" }, "Programs use the ", h("a", { href: "/docs", target: "_blank" }, "interface for programs"), "."),
    ),
  );
}

/** @param {HTMLElement} part */
function notificationsPart(part) {
  const list = h("ul", { class: "switches" }, ...session.spaces.map(mailSwitch));
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Mail"),
      h("p", { class: "hint" }, `Sent to ${session.me.email} when somebody else changes something in a space.`),
      list,
    ),
  );
}

/** @param {Space} space */
function mailSwitch(space) {
  const { space_id, personal } = space;
  const path = at`/v1/spaces/${space_id}/notifications`;
  const trouble = h("span", { class: "trouble-text", role: "alert" });
  const box = h("input", { type: "checkbox", role: "switch", disabled: true });
  const title = spaceTitle(space);
  const failed = (/** @type {unknown} */ error) => fill(trouble, words(error));
  box.addEventListener("change", async () => {
    fill(trouble);
    try {
      await call("PUT", path, { body: { mode: box.checked ? "instant" : "off" } });
      toast(box.checked ? `Mail about “${title}” is on` : `Mail about “${title}” is off`);
    } catch (error) {
      box.checked = !box.checked;
      failed(error);
    }
  });
  void call("GET", path)
    .then(({ mode }) => {
      box.checked = mode === "instant";
      box.disabled = false;
    })
    .catch(failed);
  return h(
    "li",
    null,
    h("label", { class: "switch-row" }, icon(personal ? "folder" : "space"), h("span", { class: "switch-name" }, title), box),
    trouble,
  );
}
