// @ts-check
/** Choose a folder: the space as a tree, opened down to where one is. */

import { at, pages } from "../api.js";
import { newFolder } from "../actions.js";
import { openDialog } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { learn, wayTo } from "../folder.js";
import { byName } from "../format.js";
import { icon, nodeIcon } from "../icons.js";
import { complain } from "../toasts.js";

/** @import {Node} from "../api.js" */
/** @typedef {{id: string, name: string}} Chosen */
/**
 * @typedef {{id: string, name: string, element: HTMLElement, item: HTMLElement, opened: boolean,
 *   open: (again?: boolean) => Promise<void>, close: () => void}} Branch
 */

/**
 * @param {object} what
 * @param {string} what.title
 * @param {string} what.action
 * @param {string} what.space
 * @param {string} what.top what the top is called
 * @param {string} what.from the folder that is open and chosen at first
 * @param {Set<string>} [what.without] folders that cannot be chosen
 * @param {(to: Chosen) => Promise<unknown>} what.run
 */
export function pickFolder({ title, action, space, top, from, without = new Set(), run }) {
  /** @type {Map<string, Branch>} */
  const branches = new Map();
  /** @type {Chosen} */
  let chosen = { id: "root", name: top };
  const tree = h("ul", { class: "tree", role: "tree", "aria-label": "Folders" });
  const submit = h("button", { type: "submit", class: "button primary" }, action);
  const first = branch("root", top, 1);
  tree.append(first.element);

  openDialog({
    title,
    size: "medium",
    body: h("div", { class: "tree-box" }, tree),
    buttons: [
      h(
        "button",
        { type: "button", class: "button leading", on: { click: () => newFolder(space, chosen.id, (made) => void show(made)) } },
        icon("folderPlus"),
        "New folder",
      ),
      submit,
    ],
    submit: () => run(chosen),
  });
  tree.addEventListener("keydown", keyed);
  choose(first);
  first.item.focus();
  void openTo(from);

  /** @param {Node} made */
  async function show(made) {
    const parent = branches.get(made.parent);
    if (!parent) return;
    await parent.open(true);
    const its = branches.get(made.id);
    if (its) {
      choose(its);
      its.item.focus();
    }
  }

  /** @param {string} folder */
  async function openTo(folder) {
    await first.open();
    for (const { id } of await wayTo(space, folder).catch(() => [])) {
      const found = branches.get(id);
      if (!found) return;
      choose(found);
      found.item.scrollIntoView({ block: "nearest" });
      await found.open();
    }
  }

  /** @param {Branch} to */
  function choose(to) {
    chosen = { id: to.id, name: to.name };
    for (const other of branches.values()) {
      other.item.setAttribute("aria-selected", String(other === to));
      other.item.tabIndex = other === to ? 0 : -1;
    }
    submit.disabled = without.has(to.id);
  }

  /** @param {KeyboardEvent} event */
  function keyed(event) {
    const items = /** @type {HTMLElement[]} */ ([...tree.querySelectorAll("[role=treeitem]")]).filter((one) => one.offsetParent);
    const here = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const now = [...branches.values()].find(({ item }) => item === document.activeElement);
    if (!now) return;
    /** @type {HTMLElement | undefined | null} */
    let to;
    if (event.key === "ArrowDown") to = items[here + 1];
    else if (event.key === "ArrowUp") to = items[here - 1];
    else if (event.key === "Home") to = items[0];
    else if (event.key === "End") to = items.at(-1);
    else if (event.key === "ArrowRight") void now.open();
    else if (event.key === "ArrowLeft" && now.opened) now.close();
    else if (event.key === "ArrowLeft")
      to = /** @type {HTMLElement | null} */ (now.element.parentElement?.closest("li")?.querySelector("[role=treeitem]") ?? null);
    else if (event.key === "Enter") submit.click();
    else return;
    event.preventDefault();
    if (to) {
      to.focus();
      const focused = [...branches.values()].find(({ item }) => item === to);
      if (focused) choose(focused);
    }
  }

  /**
   * @param {string} id
   * @param {string} name
   * @param {number} level
   * @returns {Branch}
   */
  function branch(id, name, level) {
    const group = h("ul", { role: "group", hidden: true });
    const twist = h("span", { class: "twist" }, icon("chevron"));
    const item = h(
      "div",
      {
        class: "tree-item",
        role: "treeitem",
        tabindex: -1,
        "aria-level": level,
        "aria-expanded": "false",
        "aria-selected": "false",
        "aria-disabled": without.has(id) ? "true" : null,
      },
      twist,
      nodeIcon("folder"),
      h("span", { class: "tree-name" }, name),
    );
    item.style.setProperty("--level", String(level));
    const element = h("li", { role: "none" }, item, group);
    let loaded = false;
    /** @type {Branch} */
    const it = {
      id,
      name,
      element,
      item,
      opened: false,
      async open(again = false) {
        if (without.has(id)) return;
        it.opened = true;
        item.setAttribute("aria-expanded", "true");
        group.hidden = false;
        if (loaded && !again) return;
        loaded = true;
        try {
          const folders = await foldersIn(space, id);
          fill(group, ...folders.map((folder) => branch(folder.id, folder.name, level + 1).element));
          if (!folders.length) item.removeAttribute("aria-expanded");
          twist.classList.toggle("none", !folders.length);
        } catch (error) {
          loaded = false;
          complain(error);
        }
      },
      close() {
        it.opened = false;
        item.setAttribute("aria-expanded", "false");
        group.hidden = true;
      },
    };
    item.addEventListener("click", (event) => {
      choose(it);
      if (!(event.target instanceof Element && event.target.closest(".twist"))) void it.open();
      else if (it.opened) it.close();
      else void it.open();
    });
    branches.set(id, it);
    return it;
  }
}

/** @param {string} space @param {string} id @returns {Promise<Node[]>} */
async function foldersIn(space, id) {
  /** @type {Node[]} */
  const folders = [];
  for await (const page of pages(at`/v1/spaces/${space}/nodes/${id}/children?page_size=1000`)) {
    folders.push(...page.nodes.filter((/** @type {Node} */ { kind }) => kind === "directory"));
  }
  learn(folders);
  return folders.sort((one, other) => byName(one.name, other.name));
}
