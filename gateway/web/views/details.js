// @ts-check
/** Details of a file or folder, and the versions of a file. */

import { contentPath, save } from "../actions.js";
import { at, call, pages } from "../api.js";
import { tell } from "../changes.js";
import { openDialog } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { bytes, exactly, kindName, kindOf, plural } from "../format.js";
import { icon, nodeIcon } from "../icons.js";
import { session } from "../session.js";
import { time } from "../times.js";
import { complain, toast } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";

/** @import {Node, Version} from "../api.js" */

/** @param {string} space @param {Node} shown */
export function detailsOf(space, shown) {
  let node = shown;
  const facts = h("dl", { class: "facts" });
  const versions = h("div", { class: "versions", tabindex: -1 }, loading());
  const file = node.kind === "file";
  openDialog({
    title: node.name,
    size: "side",
    body: [
      h("div", { class: "details-picture" }, nodeIcon(kindOf(node))),
      facts,
      file && h("h3", null, "Version history"),
      file && versions,
    ],
  });
  void show().catch(complain);

  async function show() {
    const names = await session.names(space, [node.user_id]);
    const path = (await call("GET", at`/v1/spaces/${space}/nodes/${node.id}`)).path
      .split("/")
      .filter(Boolean)
      .slice(0, -1)
      .join(" / ");
    fill(
      facts,
      fact("Kind", kindName(kindOf(node))),
      node.kind === "file" && fact("Size", bytes(node.size ?? 0)),
      fact("Folder", path || "Top of the space"),
      fact(file ? "Uploaded" : "Made", time(node.committed_at_ms), ` by ${names(node.user_id)}`),
      node.mtime_ms ? fact("Last edited", time(node.mtime_ms)) : null,
      node.target !== null && fact("Leads to", node.target),
    );
    if (file) await showVersions();
  }

  async function showVersions() {
    try {
      /** @type {Version[]} */
      const found = [];
      for await (const page of pages(at`/v1/spaces/${space}/nodes/${node.id}/versions`)) found.push(...page.versions);
      const names = await session.names(
        space,
        found.map((version) => version.user_id),
      );
      const devices = new Map((await session.devices().catch(() => [])).map((device) => [device.device_id, device.name]));
      const used = found.reduce((sum, { size }) => sum + size, 0);
      fill(
        versions,
        h("p", { class: "hint" }, `${plural(found.length, "version")}, ${bytes(used)} together`),
        h("ol", { class: "version-list" }, ...found.map((version) => row(version, names, devices.get(version.device_id)))),
      );
    } catch (error) {
      fill(versions, h("p", { class: "trouble-text", role: "alert" }, words(error)));
    }
  }

  /** @param {Version} version @param {(user: string) => string} names @param {string} [device] only one's own are known by name */
  function row(version, names, device) {
    const { version: number, size, committed_at_ms: at_, user_id: user } = version;
    const current = number === node.version;
    return h(
      "li",
      { class: current ? "version current" : "version" },
      h(
        "div",
        { class: "version-words" },
        h("p", null, h("strong", null, `Version ${number}`), current && h("span", { class: "badge" }, "Current")),
        h(
          "p",
          { class: "hint", title: exactly(at_) },
          time(at_),
          ` · ${names(user)}${device ? ` on ${device}` : ""} · ${bytes(size)}`,
        ),
      ),
      h(
        "button",
        {
          type: "button",
          class: "icon-button",
          "aria-label": `Download version ${number}`,
          title: "Download",
          on: { click: () => save(addressOf(number)) },
        },
        icon("download"),
      ),
      !current &&
        session.mayChange(space) &&
        h(
          "button",
          {
            type: "button",
            class: "button small",
            "aria-label": `Restore version ${number}`,
            on: { click: () => void restore(number).catch(complain) },
          },
          "Restore",
        ),
    );
  }

  /** @param {number} number */
  function addressOf(number) {
    if (number === node.version) return contentPath(space, node, "attachment");
    return at`/v1/spaces/${space}/nodes/${node.id}/versions/${number}/content?disposition=attachment`;
  }

  /** @param {number} number */
  async function restore(number) {
    const before = node.version;
    await bringBack(number);
    toast(`Version ${number} restored as version ${node.version}`, { action: "Undo", run: () => bringBack(before) });
  }

  /** @param {number} number */
  async function bringBack(number) {
    node = await call("POST", at`/v1/spaces/${space}/nodes/${node.id}/versions/${number}/restore`, { etag: node.etag });
    tell(space, [node]);
    await show();
    // The button that was pressed is gone.
    versions.focus();
  }
}

/** @param {string} name @param {...(globalThis.Node | string)} what */
function fact(name, ...what) {
  return h("div", null, h("dt", null, name), h("dd", null, ...what));
}
