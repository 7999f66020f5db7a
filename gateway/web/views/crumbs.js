// @ts-check
/** Where one is: the way from the top of the space, each step a link and a place to drop things on. */

import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { openMenu } from "../menu.js";
import { folderPath, router } from "../router.js";

/** @import {Crumb} from "../folder.js" */

/** More than these are behind a menu. */
const SHOWN = 3;

/** @param {string} space @param {string} top */
export function crumbs(space, top) {
  const list = h("ol", { class: "crumbs" });
  const element = h("nav", { "aria-label": "Path" }, list);
  return { element, show };

  /** @param {Crumb[]} way */
  function show(way) {
    const all = [{ id: "root", name: top }, ...way];
    const hidden = all.length > SHOWN + 1 ? all.slice(1, all.length - SHOWN + 1) : [];
    const steps = all.filter((crumb) => !hidden.includes(crumb));
    fill(
      list,
      ...steps.flatMap((crumb, i) => {
        const last = i === steps.length - 1;
        const step = h(
          "li",
          { class: last ? "crumb here" : "crumb" },
          last
            ? h("h1", { "aria-current": "page" }, crumb.name)
            : h("a", { href: folderPath(space, crumb.id), data: { folder: crumb.id, name: crumb.name } }, crumb.name),
        );
        return i === 0 && hidden.length ? [step, more(hidden)] : [step];
      }),
    );
  }

  /** @param {Crumb[]} hidden */
  function more(hidden) {
    const button = h("button", { type: "button", class: "icon-button", "aria-label": "Folders between" }, icon("more"));
    button.addEventListener("click", () =>
      openMenu(
        hidden.map(({ id, name }) => ({ label: name, icon: "folder", run: () => router.go(folderPath(space, id)) })),
        { label: "Folders between", anchor: button },
      ),
    );
    return h("li", { class: "crumb" }, button);
  }
}
