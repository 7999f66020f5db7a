// @ts-check
/** What a space is called on pages. */

/** @import {Space} from "./api.js" */

/**
 * The name of a space for people. Spaces may share a name, and a renamed space keeps the alias by which it is addressed, so the
 * alias is added wherever it says more than the name.
 * @param {Pick<Space, "name" | "alias" | "personal">} space
 */
export function spaceTitle({ name, alias, personal }) {
  if (personal) return "My files";
  return alias.startsWith(name) ? alias : `${name} (${alias})`;
}
