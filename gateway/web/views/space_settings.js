// @ts-check
/** The settings of one space: its name, who owns it, and its end. */

import { openDialog } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { dateOf } from "../format.js";
import { router } from "../router.js";
import { session } from "../session.js";
import { spaceTitle } from "../space_title.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";

/** @import {Role, Space} from "../api.js" */
/** @import {Place, View} from "../router.js" */

/** @type {[Role | "", string][]} */
const KEPT = [
  ["editor", "I can still edit"],
  ["viewer", "I can still view"],
  ["owner", "I stay an owner, too"],
  ["", "I leave the space"],
];

/** @param {Place} place @returns {View} */
export function spaceSettingsView({ params }) {
  const space = /** @type {Space} */ (session.space(params.space));
  const title = spaceTitle(space);
  const owner = space.role === "owner";
  const element = h(
    "section",
    { class: "page settings" },
    h("div", { class: "bar" }, h("h1", null, "Space settings")),
    h(
      "div",
      { class: "settings-part" },
      space.personal
        ? h("p", { class: "hint" }, "Your own files are yours alone: they are neither renamed, shared nor deleted as a whole.")
        : [
            namePart(space, owner),
            owner && transferPart(space, title),
            leavePart(space, title),
            owner && deletePart(space, title),
          ],
    ),
  );
  return { title: `Settings of ${title}`, element };
}

/** @param {Space} space @param {boolean} owner */
function namePart({ space_id, name, alias }, owner) {
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const input = h("input", { type: "text", value: name, autocomplete: "off", maxlength: 100, disabled: !owner });
  const save = h("button", { type: "submit", class: "button primary", disabled: true }, "Rename");
  input.addEventListener("input", () => (save.disabled = !input.value.trim() || input.value.trim() === name));
  const rename = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (save.disabled) return;
    save.disabled = true;
    fill(trouble);
    try {
      const renamed = await session.renameSpace(space_id, input.value.trim());
      toast(`The space is called “${renamed.name}” now`);
    } catch (error) {
      save.disabled = false;
      fill(trouble, words(error));
    }
  };
  return h(
    "section",
    null,
    h("h2", null, "Name"),
    h(
      "form",
      { class: "stacked", novalidate: true, on: { submit: (/** @type {SubmitEvent} */ event) => void rename(event) } },
      h("label", { class: "field" }, h("span", null, "Name of the space"), input),
      owner && save,
    ),
    h(
      "p",
      { class: "hint" },
      owner ? "The name changes for everybody in the space. " : "Owners of the space can rename it. ",
      `In WebDAV and on the command line, your own name for it stays “${alias}”.`,
    ),
    trouble,
  );
}

/** @param {Space} space @param {string} title */
function transferPart({ space_id }, title) {
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const email = h("input", { type: "email", autocomplete: "off", maxlength: 254 });
  const kept = h("select", null, ...KEPT.map(([value, text]) => h("option", { value }, text)));
  const ask = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    fill(trouble);
    const heir = email.value.trim();
    if (!heir || !email.validity.valid) {
      fill(trouble, "Enter an e-mail address, such as ben@example.com.");
      email.focus();
      return;
    }
    const leaves = !kept.value;
    const dialog = openDialog({
      title: "Make this person owner?",
      body: h(
        "p",
        null,
        `${heir} will decide about the members, the name and the end of “${title}”. `,
        leaves ? "It will not be shown to you any more." : "",
      ),
      buttons: [
        h("button", { type: "button", class: "button", autofocus: true, on: { click: () => dialog.close() } }, "Cancel"),
        h("button", { type: "submit", class: "button danger" }, "Transfer"),
      ],
      submit: async () => {
        await session.transferSpace(space_id, heir, /** @type {Role | ""} */ (kept.value) || null);
        toast(`${heir} is an owner of “${title}” now`);
        if (leaves) router.go("/");
        await session.loadSpaces();
      },
    });
  };
  return h(
    "section",
    null,
    h("h2", null, "Owner"),
    h("p", { class: "hint" }, "Make another person owner, and choose what you are from then on. Both happen at once."),
    h(
      "form",
      { class: "stacked", novalidate: true, on: { submit: ask } },
      h("label", { class: "field" }, h("span", null, "E-mail address of the new owner"), email),
      h("label", { class: "field" }, h("span", null, "And I"), kept),
      h("button", { type: "submit", class: "button" }, "Transfer…"),
    ),
    trouble,
  );
}

/** @param {Space} space @param {string} title */
function leavePart({ space_id }, title) {
  const ask = () => {
    const dialog = openDialog({
      title: "Leave the space?",
      body: h("p", null, `“${title}” will not be shown to you any more, until an owner adds you again.`),
      buttons: [
        h("button", { type: "button", class: "button", autofocus: true, on: { click: () => dialog.close() } }, "Cancel"),
        h("button", { type: "submit", class: "button danger" }, "Leave"),
      ],
      submit: async () => {
        await session.leaveSpace(space_id);
        router.go("/");
        await session.loadSpaces();
      },
    });
  };
  return h(
    "section",
    null,
    h("h2", null, "Leave"),
    h("p", { class: "hint" }, "What you added stays in the space. Folders that you sync with it keep their files."),
    h("button", { type: "button", class: "button", on: { click: ask } }, "Leave this space…"),
  );
}

/** @param {Space} space @param {string} title */
function deletePart({ space_id, name }, title) {
  const ask = () => {
    const typed = h("input", { type: "text", autofocus: true, autocomplete: "off", maxlength: 255, spellcheck: "false" });
    const submit = h("button", { type: "submit", class: "button danger", disabled: true }, "Delete the space");
    typed.addEventListener("input", () => (submit.disabled = typed.value.trim() !== name));
    const dialog = openDialog({
      title: "Delete the space?",
      body: [
        h(
          "p",
          null,
          `Nobody will see “${title}” any more, and its public links end. You can undelete it for a while, in Settings, Deleted spaces.`,
        ),
        h("label", { class: "field" }, h("span", null, `Write ${name} to delete it`), typed),
      ],
      buttons: [h("button", { type: "button", class: "button", on: { click: () => dialog.close() } }, "Cancel"), submit],
      submit: async () => {
        if (submit.disabled) return false;
        const deleted = await session.deleteSpace(space_id);
        router.go("/settings/deleted");
        toast(`“${title}” is deleted. You can undelete it until ${dateOf(deleted.restorable_until_ms ?? 0)}.`);
        await session.loadSpaces();
        return undefined;
      },
    });
  };
  return h(
    "section",
    null,
    h("h2", null, "Delete"),
    h(
      "p",
      { class: "hint" },
      "The space ends for all of its members. Its owners can undelete it for a while; then it is gone for good.",
    ),
    h("button", { type: "button", class: "button danger", on: { click: ask } }, "Delete this space…"),
  );
}
