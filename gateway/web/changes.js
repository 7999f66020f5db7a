// @ts-check
/** New states of nodes from the page's own changes: views apply them at once. */

/** @import {Node} from "./api.js" */

/** Events: `nodes`, a CustomEvent with `detail.space` and `detail.nodes`. */
export const changes = new EventTarget();

/** @param {string} space @param {Node[]} nodes */
export function tell(space, nodes) {
  if (nodes.length) changes.dispatchEvent(new CustomEvent("nodes", { detail: { space, nodes } }));
}

/** The state of a node that was put into the trash just now. @param {Node} node @returns {Node} */
export function deleted(node) {
  return { ...node, deleted_at_ms: Date.now() };
}
