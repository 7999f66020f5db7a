// @ts-check
/** What can be done with files and folders, each with its way back. */

import { at, call, each, Problem } from "./api.js";
import { deleted, tell } from "./changes.js";
import { askText, choose } from "./dialogs.js";
import { h } from "./dom.js";
import { plural } from "./format.js";
import { complain, toast } from "./toasts.js";
import { copyName, nameProblem, normalized } from "./upload/names.js";
import { words } from "./words.js";

/** @import {Node} from "./api.js" */

/** Addresses with more nodes than this are too long for one archive. */
const MOST_IN_ARCHIVE = 100;
const MOST_COPIES = 200;
/** With more than these one wonders whether anything happens. */
const FEW = 30;

/** @param {Node[]} nodes */
export function called(nodes) {
  return nodes.length === 1 ? `“${nodes[0].name}”` : plural(nodes.length, "item");
}

/** @param {string} name */
function checked(name) {
  const problem = nameProblem(normalized(name));
  if (problem) throw new Error(problem);
  return normalized(name);
}

/**
 * @param {string} space
 * @param {string} parent
 * @param {(made: Node) => void} then
 */
export function newFolder(space, parent, then) {
  /** @type {Node | null} */
  let made = null;
  const dialog = askText({
    title: "New folder",
    label: "Name",
    value: "New folder",
    action: "Create",
    run: async (name) => {
      made = await call("POST", at`/v1/spaces/${space}/folders`, { body: { parent, name: checked(name) } });
      tell(space, made ? [made] : []);
    },
  });
  void dialog.closed.then(() => made && then(made));
}

/** @param {string} space @param {Node} node */
export function rename(space, node) {
  askText({
    title: node.kind === "directory" ? "Rename folder" : "Rename file",
    label: "Name",
    value: node.name,
    action: "Rename",
    stem: node.kind === "file",
    run: async (name) => {
      if (name === node.name) return;
      const renamed = await patch(space, node, { name: checked(name) });
      tell(space, [renamed]);
      toast(`Renamed to “${renamed.name}”`, {
        action: "Undo",
        run: async () => tell(space, [await patch(space, renamed, { name: node.name })]),
      });
    },
  });
}

/** @param {string} space @param {Node} node @param {{parent?: string, name?: string}} body @returns {Promise<Node>} */
function patch(space, node, body) {
  return call("PATCH", at`/v1/spaces/${space}/nodes/${node.id}`, { body, etag: node.etag });
}

/** Put nodes into the trash. @param {string} space @param {Node[]} nodes */
export async function remove(space, nodes) {
  const close = nodes.length > FEW ? toast(`Moving ${called(nodes)} to the trash…`) : () => {};
  const results = await each(nodes, (node) => call("DELETE", at`/v1/spaces/${space}/nodes/${node.id}`, { etag: node.etag }));
  const done = nodes.filter((_, i) => results[i].status === "fulfilled");
  close();
  tell(space, done.map(deleted));
  report(nodes, results);
  if (done.length)
    toast(`${capital(called(done))} moved to the trash`, { action: "Undo", run: () => restore(space, done, { quiet: true }) });
}

/**
 * Bring nodes back from the trash.
 * @param {string} space
 * @param {Node[]} nodes
 * @param {{quiet?: boolean}} [how]
 */
export async function restore(space, nodes, { quiet = false } = {}) {
  const results = await each(nodes, (node) => call("POST", at`/v1/spaces/${space}/trash/${node.id}/restore`, { body: {} }));
  const back = fulfilled(results);
  tell(space, back);
  report(nodes, results);
  if (!back.length || quiet) return;
  const [first] = back;
  toast(back.length === 1 && first.path !== first.name ? `Restored as “${first.path}”` : `${capital(called(back))} restored`);
}

/**
 * Move nodes to another folder. What has a name that is taken there is asked about.
 * @param {string} space
 * @param {Node[]} nodes
 * @param {{id: string, name: string}} to
 */
export async function moveTo(space, nodes, to) {
  const moving = nodes.filter((node) => node.parent !== to.id && node.id !== to.id);
  if (!moving.length) return;
  const close = moving.length > FEW ? toast(`Moving ${called(moving)}…`) : () => {};
  const results = await each(moving, (node) => patch(space, node, { parent: to.id }));
  close();
  const taken = moving.filter((_, i) => reasonOf(results[i]) === "NAME_TAKEN");
  if (taken.length) {
    const decision = await askTaken(taken, to.name);
    for (const node of taken) {
      const i = moving.indexOf(node);
      if (decision === "keep-both") {
        [results[i]] = await Promise.allSettled([withFreeName(node.name, (name) => patch(space, node, { parent: to.id, name }))]);
      }
    }
  }
  const moved = fulfilled(results);
  tell(space, moved);
  report(moving, results, taken);
  if (!moved.length) return;
  const before = new Map(moving.map((node) => [node.id, node]));
  toast(`${capital(called(moved))} moved to “${to.name}”`, {
    action: "Undo",
    run: async () => {
      const undone = await each(moved, (node) => {
        const was = /** @type {Node} */ (before.get(node.id));
        return patch(space, node, { parent: was.parent, name: was.name });
      });
      tell(space, fulfilled(undone));
      report(moved, undone);
    },
  });
}

/** @param {Node[]} taken @param {string} where */
function askTaken(taken, where) {
  const one = taken.length === 1;
  return choose({
    title: one ? "There is one of that name already" : "There are some of these names already",
    body: h("p", null, `${capital(called(taken))} cannot be moved to “${where}” under ${one ? "its name" : "their names"}.`),
    choices: [
      { value: "skip", label: one ? "Leave it here" : "Leave them here" },
      { value: "keep-both", label: "Keep both", primary: true },
    ],
  });
}

/**
 * Copy nodes to a folder; under other names where theirs are taken.
 * @param {string} space
 * @param {Node[]} nodes
 * @param {{id: string, name: string}} to
 */
export async function copyTo(space, nodes, to) {
  const close = nodes.some(({ kind }) => kind === "directory") ? toast(`Copying ${called(nodes)}…`) : () => {};
  const results = await each(
    nodes,
    (node) =>
      withFreeName(
        node.name,
        (name) => call("POST", at`/v1/spaces/${space}/nodes/${node.id}/copy`, { body: { parent: to.id, name } }),
        true,
      ),
    2,
  );
  close();
  const made = fulfilled(results);
  tell(space, made);
  report(nodes, results);
  if (made.length)
    toast(`${capital(called(made))} copied to “${to.name}”`, { action: "Undo", run: () => removeQuietly(space, made) });
}

/** @param {string} space @param {Node[]} nodes */
async function removeQuietly(space, nodes) {
  const results = await each(nodes, (node) => call("DELETE", at`/v1/spaces/${space}/nodes/${node.id}`, { etag: node.etag }));
  tell(space, nodes.filter((_, i) => results[i].status === "fulfilled").map(deleted));
  report(nodes, results);
}

/**
 * @template T
 * @param {string} name
 * @param {(name: string) => Promise<T>} attempt
 * @param {boolean} [asItIs] whether the name itself may be free
 * @returns {Promise<T>}
 */
async function withFreeName(name, attempt, asItIs = false) {
  for (let number = asItIs ? 1 : 2; ; number += 1) {
    try {
      return await attempt(number === 1 ? name : copyName(name, number));
    } catch (error) {
      if (!(error instanceof Problem) || error.reason !== "NAME_TAKEN" || number >= MOST_COPIES) throw error;
    }
  }
}

/** @param {string} space @param {Node[]} nodes */
export function download(space, nodes) {
  if (nodes.length === 1) return save(contentPath(space, nodes[0], "attachment"));
  if (nodes.length > MOST_IN_ARCHIVE) {
    complain(
      new Error(`At most ${MOST_IN_ARCHIVE} items can be downloaded at once; select the folder that they are in instead.`),
    );
    return undefined;
  }
  return save(`${at`/v1/spaces/${space}/archive`}?${nodes.map(({ id }) => `node=${id}`).join("&")}`);
}

/**
 * @param {string} space
 * @param {Node} node
 * @param {"inline" | "attachment"} disposition
 */
export function contentPath(space, node, disposition) {
  if (node.kind === "directory") return at`/v1/spaces/${space}/nodes/${node.id}/archive`;
  return at`/v1/spaces/${space}/nodes/${node.id}/content?disposition=${disposition}`;
}

/** Have the browser save what is at an address. @param {string} address */
export function save(address) {
  const link = h("a", { href: address, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
}

/**
 * @template T
 * @param {PromiseSettledResult<T>[]} results
 * @returns {T[]}
 */
function fulfilled(results) {
  return results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

/** @param {PromiseSettledResult<unknown>} result */
function reasonOf(result) {
  return result.status === "rejected" && result.reason instanceof Problem ? result.reason.reason : "";
}

/**
 * Say what could not be done, and why the first of these could not.
 * @param {Node[]} nodes
 * @param {PromiseSettledResult<unknown>[]} results
 * @param {Node[]} [asked] that were asked about
 */
function report(nodes, results, asked = []) {
  const failed = nodes.filter((node, i) => results[i].status === "rejected" && !asked.includes(node));
  if (!failed.length) return;
  const first = /** @type {PromiseRejectedResult} */ (results[nodes.indexOf(failed[0])]).reason;
  toast(`${capital(called(failed))}: ${words(first)}`, { trouble: true });
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
