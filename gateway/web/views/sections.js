// @ts-check
/** A view of several sections, one of which is shown beside the list of all. */

import { h } from "../dom.js";
import { icon } from "../icons.js";
import { failure } from "./blank.js";

/** @import {View} from "../router.js" */

/** @typedef {[name: string, title: string, picture: string, show: (part: HTMLElement) => void]} Section */

/**
 * @param {{title: string, base: string, sections: Section[], section: string}} what `base` is the address of the first section; the
 *   others are below it
 * @returns {View}
 */
export function sectionsView({ title, base, sections, section }) {
  const found = sections.find(([name]) => name === section);
  if (!found)
    return {
      title: "Not found",
      element: failure("There is nothing at this address.", { label: `Go to ${title.toLowerCase()}`, href: base }),
    };
  const part = h("div", { class: "settings-part" });
  found[3](part);
  return { title: found[1], element: sectionsFrame({ title, base, sections, section, part }) };
}

/**
 * The frame of a section, or of a page below it.
 * @param {{title: string, base: string, sections: Section[], section: string, part: HTMLElement}} what
 */
export function sectionsFrame({ title, base, sections, section, part }) {
  return h(
    "section",
    { class: "page settings" },
    h("div", { class: "bar" }, h("h1", null, title)),
    h(
      "div",
      { class: "settings-columns" },
      h(
        "nav",
        { class: "settings-nav", "aria-label": title },
        ...sections.map(([name, label, picture], i) =>
          h(
            "a",
            { class: "side-link", href: i ? `${base}/${name}` : base, "aria-current": name === section ? "page" : null },
            icon(picture),
            h("span", null, label),
          ),
        ),
      ),
      part,
    ),
  );
}
