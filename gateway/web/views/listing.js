// @ts-check
/** A listing of which one page after the other is shown. */

import { call, pageAt } from "../api.js";
import { fill, h } from "../dom.js";
import { complain } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";

/**
 * @template T
 * @param {{name: string, row: (one: T) => HTMLElement, none: string, more: string, kind?: string}} what `name` is the list in each page,
 *   `none` the text for an empty list, `more` that of the button for the next page, and `kind` a class of the list
 */
export function listing({ name, row, none, more, kind = "" }) {
  const list = h("ul", { class: `people ${kind}` });
  const next = h(
    "button",
    { type: "button", class: "button", hidden: true, on: { click: () => void load().catch(complain) } },
    more,
  );
  let path = "";
  let token = "";
  /** What was asked last: an answer to an earlier question is out of date. */
  let asked = 0;
  return { element: h("div", { class: "listing" }, list, next), show };

  /** Show the listing at a path from its beginning. @param {string} from */
  async function show(from) {
    path = from;
    token = "";
    next.hidden = true;
    fill(list, h("li", null, loading()));
    const mine = asked + 1;
    try {
      await load(true);
    } catch (error) {
      if (mine === asked) fill(list, h("li", null, h("p", { class: "trouble-text", role: "alert" }, words(error))));
    }
  }

  async function load(anew = false) {
    asked += 1;
    const mine = asked;
    const page = await call("GET", pageAt(path, token));
    if (mine !== asked) return;
    token = page.next_page_token ?? "";
    next.hidden = !token;
    if (anew) list.replaceChildren();
    list.append(...page[name].map(row));
    // A page may be empty although others follow, which have what is looked for.
    if (!list.children.length && !token) fill(list, h("li", { class: "hint" }, none));
  }
}
