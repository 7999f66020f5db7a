// @ts-check
/** Who did what in a space, and when. */

import { at, call, pageAt } from "../api.js";
import { debounced, fill, h } from "../dom.js";
import { clock, dayOf, exactly, kindOf, plural } from "../format.js";
import { icon, nodeIcon } from "../icons.js";
import { live } from "../live.js";
import { folderPath } from "../router.js";
import { session } from "../session.js";
import { complain } from "../toasts.js";
import { words } from "../words.js";
import { blank, failure, loading } from "./blank.js";

/** @import {Activity} from "../api.js" */
/** @import {Place, View} from "../router.js" */
/** @typedef {{first: Activity, all: Activity[]}} Group what one person did at once */

const RUNG_MS = 500;
const TOGETHER_MS = 10 * 60_000;
const NAMED = 4;

/** @type {Record<Activity["change"], string>} */
const VERBS = { created: "added", updated: "changed", moved: "moved", deleted: "deleted", restored: "restored" };
/** @type {Record<Activity["change"], string>} */
const PICTURES = { created: "plus", updated: "edit", moved: "move", deleted: "trash", restored: "restore" };

/** @param {Place} place @returns {View} */
export function activityView({ params: { space } }) {
  const stop = new AbortController();
  const { signal } = stop;
  /** @type {Activity[]} */
  let activities = [];
  let token = "";
  const feed = h("div", { class: "feed" }, loading());
  const more = h(
    "button",
    { type: "button", class: "button", hidden: true, on: { click: () => void load(true).catch(complain) } },
    "Show earlier",
  );
  const element = h(
    "section",
    { class: "page activity" },
    h("div", { class: "bar" }, h("h1", null, "Activity")),
    feed,
    h("div", { class: "more-results" }, more),
  );
  const again = debounced(RUNG_MS, () => void load(false).catch(failed));
  live.addEventListener("doorbell", (/** @type {any} */ { detail }) => detail.space === space && again(), { signal });
  live.addEventListener("resumed", again, { signal });
  void load(false).catch(failed);
  return {
    title: "Activity",
    element,
    leave() {
      stop.abort();
      again.cancel();
    },
  };

  /** @param {boolean} earlier */
  async function load(earlier) {
    const path = at`/v1/spaces/${space}/activity?page_size=${100}`;
    const page = await call("GET", pageAt(path, earlier ? token : ""), { signal });
    const users = page.activities.map((/** @type {Activity} */ one) => one.user_id);
    const names = await session.names(space, new Set(users));
    if (earlier || !activities.length) token = page.next_page_token ?? "";
    const known = new Set(activities.map(keyOf));
    const fresh = page.activities.filter((/** @type {Activity} */ one) => !known.has(keyOf(one)));
    activities = earlier ? [...activities, ...fresh] : [...fresh, ...activities];
    show(names);
  }

  /** @param {unknown} error */
  function failed(error) {
    if (!signal.aborted) fill(feed, failure(words(error)));
  }

  /** @param {(user: string) => string} names */
  function show(names) {
    more.hidden = !token;
    if (!activities.length) {
      fill(
        feed,
        blank({
          picture: "activity",
          title: "Nothing has happened yet",
          text: "Who adds, changes, moves or deletes something in this space is shown here.",
        }),
      );
      return;
    }
    /** @type {Map<string, Group[]>} */
    const days = new Map();
    for (const group of grouped(activities)) {
      const day = dayOf(group.first.committed_at_ms);
      days.set(day, [...(days.get(day) ?? []), group]);
    }
    fill(
      feed,
      ...[...days].map(([day, groups]) =>
        h(
          "section",
          { class: "day" },
          h("h2", null, day),
          h("ol", { class: "events" }, ...groups.map((group) => event(group, names))),
        ),
      ),
    );
  }

  /** @param {Group} group @param {(user: string) => string} names */
  function event({ first, all }, names) {
    const who = names(first.user_id);
    const shown = all.slice(0, NAMED);
    return h(
      "li",
      { class: `event ${first.change}` },
      h("span", { class: "event-picture" }, icon(PICTURES[first.change])),
      h(
        "div",
        { class: "event-words" },
        h(
          "p",
          null,
          h("strong", null, who === "you" ? "You" : who),
          ` ${said(first)}${all.length > 1 ? ` ${plural(all.length, "item")}` : ""}`,
        ),
        h(
          "ul",
          { class: "event-nodes" },
          ...shown.map(mention),
          all.length > NAMED && h("li", { class: "event-rest" }, `and ${all.length - NAMED} more`),
        ),
      ),
      h(
        "time",
        { datetime: new Date(first.committed_at_ms).toISOString(), title: exactly(first.committed_at_ms) },
        clock(first.committed_at_ms),
      ),
    );
  }

  /** @param {Activity} activity */
  function mention({ change, node, from_name, from_parent }) {
    const gone = change === "deleted";
    const href = gone
      ? `${folderPath(space)}/trash`
      : node.kind === "directory"
        ? folderPath(space, node.id)
        : `${folderPath(space, node.parent)}?select=${node.id}`;
    const renamed = change === "moved" && from_name && from_name !== node.name && from_parent === node.parent;
    return h(
      "li",
      null,
      nodeIcon(kindOf(node)),
      h("a", { class: "quiet-link", href }, node.name),
      renamed && h("span", { class: "event-was" }, ` was “${from_name}”`),
    );
  }
}

/** @param {Activity} activity */
function said({ change, from_parent, node }) {
  return change === "moved" && from_parent === node.parent ? "renamed" : VERBS[change];
}

/** @param {Activity} activity */
function keyOf({ seq, node, change }) {
  return `${seq} ${node.id} ${change}`;
}

/** @param {Activity[]} activities newest first @returns {Group[]} */
function grouped(activities) {
  /** @type {Group[]} */
  const groups = [];
  for (const activity of activities) {
    const last = groups.at(-1);
    const same =
      last &&
      last.first.user_id === activity.user_id &&
      said(last.first) === said(activity) &&
      dayOf(last.first.committed_at_ms) === dayOf(activity.committed_at_ms) &&
      (last.all.at(-1)?.committed_at_ms ?? 0) - activity.committed_at_ms < TOGETHER_MS;
    if (same) last.all.push(activity);
    else groups.push({ first: activity, all: [activity] });
  }
  return groups;
}
