// @ts-check
/** Deleted spaces, which their owners can undelete for a while. */

import { fill, h } from "../dom.js";
import { dateOf } from "../format.js";
import { icon } from "../icons.js";
import { session } from "../session.js";
import { spaceTitle } from "../space_title.js";
import { time } from "../times.js";
import { complain, toast } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";

/** @import {Space} from "../api.js" */

/** @param {HTMLElement} part */
export function deletedSpacesPart(part) {
  const list = h("ul", { class: "devices" }, h("li", null, loading()));
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Deleted spaces"),
      h(
        "p",
        { class: "hint" },
        "Spaces of which you are an owner. Undelete one to bring it back with its files, people and links.",
      ),
      list,
    ),
  );
  void showDeleted(list);
}

/** @param {HTMLElement} list */
async function showDeleted(list) {
  try {
    const spaces = await session.deletedSpaces();
    const none = h("li", { class: "hint" }, "There are none.");
    fill(list, ...(spaces.length ? spaces.map((space) => row(space, list)) : [none]));
  } catch (error) {
    fill(list, h("li", null, h("p", { class: "trouble-text", role: "alert" }, words(error))));
  }
}

/** @param {Space} space @param {HTMLElement} list */
function row(space, list) {
  const title = spaceTitle(space);
  const undelete = async () => {
    await session.undeleteSpace(space.space_id);
    toast(`“${title}” is back`);
    await showDeleted(list);
  };
  return h(
    "li",
    { class: "device" },
    h("span", { class: "device-picture" }, icon("space")),
    h(
      "div",
      { class: "device-words" },
      h("p", null, h("strong", null, title)),
      h(
        "p",
        { class: "hint" },
        "Deleted ",
        time(space.deleted_at_ms ?? 0),
        ` · can be undeleted until ${dateOf(space.restorable_until_ms ?? 0)}`,
      ),
    ),
    h(
      "button",
      {
        type: "button",
        class: "button small",
        "aria-label": `Undelete: ${title}`,
        on: { click: () => void undelete().catch(complain) },
      },
      "Undelete",
    ),
  );
}
