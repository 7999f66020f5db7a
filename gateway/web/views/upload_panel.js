// @ts-check
/** The panel of uploads: how far they are, and what they need from the user. */

import { fill, h, unseen } from "../dom.js";
import { bytes, duration, kindOf, plural } from "../format.js";
import { icon, nodeIcon } from "../icons.js";
import { folderPath } from "../router.js";
import { session } from "../session.js";
import { complain } from "../toasts.js";
import { chooseFiles, engine } from "../transfers.js";

/** @import {BatchSnapshot, ItemSnapshot, ItemState} from "../upload/item.js" */
/** @import {Decision} from "../upload/uploads.js" */

/** More rows than these nobody reads. */
const MOST_ROWS = 100;
/** Items that need the user come first, finished ones last. @type {ItemState[]} */
const ORDER = ["conflict", "failed", "choose", "committing", "uploading", "hashing", "queued", "done", "skipped", "cancelled"];
/** @type {ItemState[]} */
const WAITING = ["conflict", "failed", "choose"];

/** @type {Partial<Record<ItemState, string>>} */
const SAID = {
  queued: "Waiting",
  hashing: "Reading",
  committing: "Finishing",
  done: "Uploaded",
  skipped: "Skipped",
  cancelled: "Cancelled",
};

export class UploadPanel {
  /** @type {Map<string, BatchSnapshot>} */
  #batches = new Map();
  /** @type {Map<string, ItemSnapshot>} */
  #items = new Map();
  /** @type {Map<string, {element: HTMLElement, state: string}>} */
  #rows = new Map();
  #uploads = engine();
  #frame = 0;
  #stop = new AbortController();
  #title = h("h2", { class: "uploads-title", id: "uploads-title" });
  #detail = h("p", { class: "uploads-detail" });
  #status = h("p", { class: "unseen", role: "status" });
  #progress = h("progress", { max: 1, value: 0, "aria-labelledby": "uploads-title" });
  #pause = h("button", { type: "button", class: "icon-button", on: { click: () => this.#pauseOrResume() } });
  #fold = h(
    "button",
    {
      type: "button",
      class: "icon-button fold",
      "aria-expanded": "true",
      "aria-controls": "uploads-list",
      "aria-label": "Details",
      on: { click: () => this.#toggle() },
    },
    icon("chevron"),
  );
  #close = h(
    "button",
    { type: "button", class: "icon-button", "aria-label": "Close", on: { click: () => this.#dismiss() } },
    icon("close"),
  );
  #decisions = h("div", { class: "uploads-decisions" });
  #list = h("ul", { class: "uploads-list", id: "uploads-list" });
  #more = h("p", { class: "uploads-more" });

  constructor() {
    this.element = h(
      "section",
      { class: "uploads", "aria-label": "Uploads", hidden: true },
      h(
        "header",
        { class: "uploads-head" },
        h("div", { class: "uploads-words" }, this.#title, this.#detail),
        this.#pause,
        this.#fold,
        this.#close,
      ),
      this.#progress,
      this.#status,
      h("div", { class: "uploads-body" }, this.#decisions, this.#list, this.#more),
    );
    const { signal } = this.#stop;
    this.#uploads.addEventListener("change", (/** @type {any} */ { detail }) => this.#take(detail), { signal });
    this.#uploads.addEventListener("finished", (/** @type {any} */ { detail }) => this.#finished(detail.batch), { signal });
  }

  leave() {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
    this.element.remove();
  }

  /** @param {{batches: BatchSnapshot[], items: ItemSnapshot[], removed: string[]}} detail */
  #take({ batches, items, removed }) {
    for (const batch of batches) this.#batches.set(batch.id, batch);
    for (const item of items) this.#items.set(item.id, item);
    for (const id of removed) this.#batches.delete(id);
    if (removed.length) for (const [id, { batch }] of this.#items) if (!this.#batches.has(batch)) this.#items.delete(id);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#show();
    });
  }

  #show() {
    const batches = [...this.#batches.values()];
    this.element.hidden = batches.length === 0;
    if (!batches.length) return;
    this.#showHead(batches);
    this.#showDecisions();
    this.#showRows();
  }

  /** @param {BatchSnapshot[]} batches */
  #showHead(batches) {
    const { paused } = this.#uploads;
    const sum = (/** @type {(batch: BatchSnapshot) => number} */ what) => batches.reduce((all, batch) => all + what(batch), 0);
    const active = batches.filter(({ state }) => state === "active");
    const over = sum(({ count }) => count.done);
    const files = sum(({ files: all, count }) => all - count.skipped - count.cancelled);
    const waiting = sum(({ count }) => WAITING.reduce((all, state) => all + count[state], 0));
    const [done, total] = [sum((batch) => batch.done), sum((batch) => batch.total)];
    const speed = active.reduce((all, batch) => all + batch.speed, 0);
    let title = `${plural(over, "file")} uploaded`;
    if (active.length) title = `${paused ? "Paused" : "Uploading"}: ${over} of ${plural(files, "file")}`;
    else if (waiting) title = `${plural(waiting, "file")} ${waiting === 1 ? "needs" : "need"} you`;
    else if (!files) title = "Nothing was uploaded";
    this.element.classList.toggle("active", active.length > 0);
    this.element.classList.toggle("paused", paused);
    fill(this.#title, title);
    fill(this.#detail, active.length ? this.#pace(done, total, speed) : total ? bytes(done) : "");
    this.#progress.value = total ? done / total : over / Math.max(1, files);
    this.#progress.hidden = !active.length;
    this.#pause.hidden = !active.length;
    this.#close.hidden = active.length > 0;
    const label = paused ? "Resume all" : "Pause all";
    if (this.#pause.getAttribute("aria-label") !== label) {
      this.#pause.setAttribute("aria-label", label);
      this.#pause.title = label;
      fill(this.#pause, icon(paused ? "play" : "pause"));
    }
  }

  /** @param {number} done @param {number} total @param {number} speed */
  #pace(done, total, speed) {
    const parts = [`${bytes(done)} of ${bytes(total)}`];
    if (speed > 0 && !this.#uploads.paused) {
      parts.push(`${bytes(speed)}/s`);
      if (total > done) parts.push(`${duration((total - done) / speed)} left`);
    }
    return parts.join(" · ");
  }

  #showDecisions() {
    const several = [...this.#batches.values()].filter(({ count }) => count.conflict > 1);
    const key = several.map(({ id, count }) => `${id}${count.conflict}`).join();
    if (this.#decisions.dataset.key === key) return;
    this.#decisions.dataset.key = key;
    fill(
      this.#decisions,
      ...several.map(({ id, count }) =>
        h(
          "div",
          { class: "uploads-decision" },
          h(
            "p",
            null,
            `${plural(count.conflict, "file")} of the same name ${count.conflict === 1 ? "is" : "are"} there already.`,
          ),
          ...this.#choices(id, " all"),
        ),
      ),
    );
  }

  /** @param {string} id @param {string} [which] @param {boolean} [replaceable] */
  #choices(id, which = "", replaceable = true) {
    const choice = (/** @type {Decision} */ decision, /** @type {string} */ label) =>
      h("button", { type: "button", class: "button small", on: { click: () => this.#uploads.resolve(id, decision) } }, label);
    return [
      h(
        "div",
        { class: "uploads-choices" },
        replaceable && choice("replace", `Replace${which}`),
        choice("keep-both", "Keep both"),
        choice("skip", `Skip${which}`),
      ),
    ];
  }

  #showRows() {
    const items = [...this.#items.values()].sort((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state));
    const shown = items.slice(0, MOST_ROWS);
    const wanted = new Set(shown.map(({ id }) => id));
    for (const [id, { element }] of this.#rows) {
      if (wanted.has(id)) continue;
      element.remove();
      this.#rows.delete(id);
    }
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement : null;
    let before = this.#list.firstElementChild;
    for (const item of shown) {
      const element = this.#row(item);
      if (element === before) before = element.nextElementSibling;
      else this.#list.insertBefore(element, before);
    }
    if (focused?.isConnected && focused !== document.activeElement) focused.focus();
    fill(this.#more, items.length > MOST_ROWS ? `and ${plural(items.length - MOST_ROWS, "more file")}` : "");
  }

  /** @param {ItemSnapshot} item */
  #row(item) {
    let row = this.#rows.get(item.id);
    if (!row) {
      row = { element: h("li", { class: "upload" }), state: "" };
      this.#rows.set(item.id, row);
    }
    const sending = item.state === "uploading" || item.state === "hashing";
    const state = `${item.state} ${item.reason}`;
    if (row.state !== state) {
      row.state = state;
      row.element.className = `upload ${item.state}`;
      fill(row.element, ...this.#written(item));
    }
    if (sending) {
      const bar = row.element.querySelector("progress");
      if (bar) bar.value = item.total ? item.done / item.total : 0;
      const pace = row.element.querySelector(".upload-state");
      if (pace && item.done) pace.textContent = `${bytes(item.done)} of ${bytes(item.total)}`;
    }
    return row.element;
  }

  /** @param {ItemSnapshot} item */
  #written(item) {
    const { id, name, path, state, reason, total, conflict } = item;
    const sending = state === "uploading" || state === "hashing";
    const directory = path.slice(0, -name.length).replace(/\/$/, "");
    const batch = this.#batches.get(item.batch);
    const button = (/** @type {string} */ label, /** @type {string} */ picture, /** @type {() => void} */ run) =>
      h(
        "button",
        { type: "button", class: "icon-button small", "aria-label": `${label} ${name}`, title: label, on: { click: run } },
        icon(picture),
      );
    const said =
      state === "conflict"
        ? "There is one of that name already."
        : reason || (state === "done" ? bytes(total) : (SAID[state] ?? ""));
    return [
      nodeIcon(kindOf({ kind: "file", name, media_type: null })),
      h(
        "div",
        { class: "upload-words" },
        state === "done" && item.node && batch
          ? h(
              "a",
              { class: "upload-name", href: `${folderPath(batch.space, item.node.parent)}?select=${item.node.id}`, title: path },
              name,
            )
          : h("span", { class: "upload-name", title: path }, name),
        directory && h("span", { class: "upload-path" }, ` in ${directory}`),
        h("span", { class: "upload-state" }, said),
        sending && h("progress", { max: 1, value: 0, "aria-label": `Progress of ${name}` }),
        state === "conflict" && this.#choices(id, "", conflict?.kind === "file"),
        state === "choose" &&
          batch &&
          h(
            "button",
            { type: "button", class: "button small", on: { click: () => this.#chooseAgain(item, batch) } },
            "Choose again",
          ),
      ),
      state === "failed" && button("Retry", "retry", () => void this.#uploads.retry(id).catch(complain)),
      state === "done" && h("span", { class: "upload-done" }, icon("check"), unseen("Uploaded")),
      !["done", "skipped", "cancelled", "committing"].includes(state) &&
        button("Cancel", "close", () => this.#uploads.cancel(id)),
    ];
  }

  /**
   * The engine recognises a file that is added to the same place again.
   * @param {ItemSnapshot} item
   * @param {BatchSnapshot} batch
   */
  #chooseAgain(item, { space, parent, label }) {
    chooseFiles({ space, parent, label }, { folder: item.path.includes("/") });
  }

  #pauseOrResume() {
    if (this.#uploads.paused) this.#uploads.resume();
    else this.#uploads.pause();
  }

  #toggle() {
    const folded = this.element.classList.toggle("folded");
    this.#fold.setAttribute("aria-expanded", String(!folded));
  }

  #dismiss() {
    for (const { id, count } of this.#batches.values()) if (WAITING.some((state) => count[state])) this.#uploads.cancel(id);
    this.#uploads.clear();
  }

  /** @param {BatchSnapshot} batch */
  #finished({ count, space, label }) {
    if (!count.done || !session.account) return;
    fill(this.#status, `${plural(count.done, "file")} uploaded to ${label || session.space(space)?.name || "the space"}`);
  }
}
