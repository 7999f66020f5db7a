// @ts-check
/** Where one is signed in. */

import { at, call } from "../api.js";
import { confirm } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { dateOf, plural } from "../format.js";
import { icon } from "../icons.js";
import { session } from "../session.js";
import { time } from "../times.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";
import { loading } from "./blank.js";

/** @import {Device, DeviceEnd} from "../api.js" */

/** @type {Record<Device["kind"], [string, string]>} */
const KINDS = { client: ["device", "Synced device"], browser: ["globe", "Browser"], program: ["key", "Key for programs"] };

/** @param {HTMLElement} part */
export function devicesPart(part) {
  const list = h("ul", { class: "devices" }, h("li", null, loading()));
  fill(
    part,
    h(
      "section",
      null,
      h("h2", null, "Devices"),
      h("p", { class: "hint" }, "Everything that is signed in as you. Sign out what you do not know or use any more."),
      list,
    ),
  );
  void showDevices(list, () => true);
}

/**
 * @param {HTMLElement} list
 * @param {(device: Device) => boolean} wanted
 * @param {string} [none] the text for an empty list
 */
export async function showDevices(list, wanted, none = "") {
  try {
    session.forgetDevices();
    const devices = (await session.devices()).filter((device) => !device.revoked_at_ms && wanted(device));
    devices.sort((one, other) => Number(other.current) - Number(one.current) || other.last_seen_at_ms - one.last_seen_at_ms);
    fill(
      list,
      ...(devices.length
        ? devices.map((device) => row(device, () => showDevices(list, wanted, none)))
        : [none && h("li", { class: "hint" }, none)]),
    );
  } catch (error) {
    fill(list, h("li", null, h("p", { class: "trouble-text", role: "alert" }, words(error))));
  }
}

/** @param {Device} device @param {() => Promise<void>} again */
function row(device, again) {
  const { name, kind, current, created_at_ms, last_seen_at_ms, expires_at_ms, scopes, spaces } = device;
  const [picture, title] = KINDS[kind];
  const verb = kind === "program" ? "Revoke" : "Sign out";
  return h(
    "li",
    { class: "device" },
    h("span", { class: "device-picture" }, icon(picture)),
    h(
      "div",
      { class: "device-words" },
      h("p", null, h("strong", null, name), current && h("span", { class: "badge" }, "This browser")),
      h(
        "p",
        { class: "hint" },
        `${title} · last used `,
        time(last_seen_at_ms || created_at_ms),
        " · since ",
        time(created_at_ms),
        expires_at_ms && kind === "program" ? ` · until ${dateOf(expires_at_ms)}` : "",
        scopes ? ` · ${limits(scopes, spaces)}` : "",
      ),
    ),
    !current &&
      h(
        "button",
        {
          type: "button",
          class: "button small",
          "aria-label": `${verb}: ${name}`,
          on: { click: () => revoke(device, verb, again) },
        },
        verb,
      ),
  );
}

/** What a key is for. */
/** @param {string[]} scopes @param {string[] | null} spaces */
function limits(scopes, spaces) {
  const may = [
    scopes.includes("write") ? "reads and changes files" : "only reads",
    ...(scopes.includes("share") ? ["shares"] : []),
  ];
  return `${may.join(", ")}${spaces ? `, in ${plural(spaces.length, "space")} only` : ""}`;
}

/** @param {Device} device @param {string} verb @param {() => Promise<void>} again */
function revoke({ device_id, name, kind }, verb, again) {
  const isKey = kind === "program";
  const links = h("input", { type: "checkbox" });
  confirm({
    title: isKey ? "Revoke this key?" : "Sign this device out?",
    text: isKey
      ? `Programs that use “${name}” stop working at once.`
      : `“${name}” has to sign in again to go on. Files that are on it stay there. Keys for programs that were made on it stop working.`,
    action: verb,
    more: !isKey && h("label", null, links, h("span", null, "End the public links that were made on it, too")),
    run: async () => {
      const path = at`/v1/devices/${device_id}`;
      /** @type {DeviceEnd} */
      const end = await call("DELETE", links.checked ? `${path}?end_links=true` : path);
      await again();
      toast([isKey ? `“${name}” is revoked` : `“${name}” is signed out`, ...consequences(end)].join(". "));
    },
  });
}

/** What has become of the things that a device had made. */
/** @param {DeviceEnd} end @returns {string[]} */
function consequences({ ended_key_count, ended_link_count, remaining_link_count }) {
  const parts = [];
  if (ended_key_count) parts.push(`${plural(ended_key_count, "key")} ended with it`);
  if (ended_link_count) parts.push(`${plural(ended_link_count, "public link")} ended with it`);
  if (remaining_link_count) parts.push(`${plural(remaining_link_count, "public link")} that it made can still be opened`);
  return parts;
}
