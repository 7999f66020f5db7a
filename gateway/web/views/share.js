// @ts-check
/** Share: public links to a file or folder, and the people of the space. */

import { openDialog } from "../dialogs.js";
import { h } from "../dom.js";
import { session } from "../session.js";
import { spaceTitle } from "../space_title.js";
import { linksPart } from "./links.js";
import { peoplePart } from "./people.js";

/**
 * @param {string} space
 * @param {{id: string, name: string, kind: string} | null} node null for the whole space
 */
export function shareDialog(space, node) {
  const here = session.space(space);
  const spaceName = here ? spaceTitle(here) : "this space";
  const people = h("section", { class: "share-part", "aria-label": "People" });
  const links = h("section", { class: "share-part", "aria-label": "Public links" });
  const shared = Boolean(here && !here.personal);
  openDialog({
    title: `Share “${node?.name ?? spaceName}”`,
    size: "medium",
    body: node ? [links, shared && people] : [shared && people, links],
  });
  if (shared) peoplePart(people, space, spaceName);
  linksPart(links, space, node?.id ?? "root", node === null ? "space" : node.kind === "directory" ? "folder" : "file");
}
