// @ts-check
/** The frame of every view: spaces at the side, search and the account at the top. */

import { at, call } from "../api.js";
import { changes } from "../changes.js";
import { askText } from "../dialogs.js";
import { debounced, entitle, fill, h } from "../dom.js";
import { bytes } from "../format.js";
import { icon, sign } from "../icons.js";
import { live } from "../live.js";
import { opensMenu } from "../menu.js";
import { setTheme, theme } from "../preferences.js";
import { folderPath, router } from "../router.js";
import { session } from "../session.js";
import { spaceTitle } from "../space_title.js";
import { complain, toast } from "../toasts.js";
import { shortcutsDialog } from "./shortcuts.js";

/** @import {Theme} from "../preferences.js" */
/** @import {Place, View} from "../router.js" */

const TYPED_MS = 250;
const USAGE_MS = 2000;
/** A connection that is back sooner was never gone. */
const GONE_MS = 2000;
/** Share of the quota from which on its usage is shown as a warning. */
const NEARLY_FULL = 0.9;

export class Shell {
  #outlet = h("main", { class: "outlet", id: "main", tabindex: -1 });
  #side = h("nav", { class: "side", "aria-label": "Spaces", id: "side" });
  #usage = h("div", { class: "usage" });
  #offline = h("div", { class: "offline", role: "status" });
  #unproven = h("div", { class: "unproven", role: "status" });
  #search = h("input", {
    type: "search",
    placeholder: "Search in this space",
    "aria-label": "Search in this space",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 255,
  });
  #drawer = h(
    "button",
    {
      type: "button",
      class: "icon-button drawer-button",
      "aria-label": "Spaces",
      "aria-expanded": "false",
      "aria-controls": "side",
    },
    icon("menu"),
  );
  /** @type {View | null} */
  #view = null;
  #path = "";
  /** The space that search and usage are about. */
  #space = "";
  #stop = new AbortController();

  constructor() {
    const account = opensMenu(
      h(
        "button",
        { type: "button", class: "avatar", "aria-label": `Account of ${session.me.email}`, title: session.me.email },
        session.me.email.charAt(0).toUpperCase(),
      ),
      "Account",
      () => this.#accountEntries(),
      () => h("div", { class: "menu-head" }, session.me.email, session.me.guest && h("span", { class: "badge" }, "Guest")),
    );
    this.element = h(
      "div",
      { class: "shell" },
      h(
        "a",
        { class: "skip", href: "#main", on: { click: (/** @type {Event} */ event) => this.#skip(event) } },
        "Skip to the files",
      ),
      h(
        "header",
        { class: "top" },
        this.#drawer,
        h("a", { class: "brand", href: "/", "aria-label": "Syncline, my files" }, sign(), h("span", null, "Syncline")),
        h(
          "form",
          { class: "search", role: "search", on: { submit: (/** @type {Event} */ event) => this.#searchNow(event) } },
          icon("search"),
          this.#search,
          h("kbd", { "aria-hidden": "true" }, "/"),
        ),
        h(
          "button",
          {
            type: "button",
            class: "icon-button help-button",
            "aria-label": "Keyboard shortcuts",
            title: "Keyboard shortcuts (?)",
            on: { click: () => shortcutsDialog() },
          },
          icon("help"),
        ),
        account,
      ),
      this.#side,
      h("div", { class: "scrim", on: { click: () => this.#showDrawer(false) } }),
      h("div", { class: "stage" }, this.#offline, this.#unproven, this.#outlet),
    );
    const { signal } = this.#stop;
    const usage = debounced(USAGE_MS, () => void this.#showUsage());
    session.addEventListener("spaces", () => this.#showSide(), { signal });
    session.addEventListener("invitations", () => this.#showSide(), { signal });
    session.addEventListener("account", () => this.#showUnproven(), { signal });
    this.#showUnproven();
    live.addEventListener("doorbell", (/** @type {any} */ { detail }) => detail.space === this.#space && usage(), { signal });
    const connection = debounced(GONE_MS, () => this.#showConnection());
    live.addEventListener("state", () => (live.connected ? this.#showConnection() : connection()), { signal });
    changes.addEventListener("nodes", () => usage(), { signal });
    this.#search.addEventListener(
      "input",
      debounced(TYPED_MS, () => this.#find()),
    );
    this.#search.addEventListener("keydown", (event) => this.#searchKeyed(event));
    this.#drawer.addEventListener("click", () => this.#showDrawer(!this.element.classList.contains("drawer-open")));
    this.#side.addEventListener(
      "click",
      (event) => event.target instanceof Element && event.target.closest("a") && this.#showDrawer(false),
    );
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && this.#showDrawer(false));
  }

  leave() {
    this.#view?.leave?.();
    this.#stop.abort();
    this.element.remove();
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  /** @param {Place} place @param {() => View} make @param {boolean} [anew] what the view depends on has changed */
  show(place, make, anew = false) {
    const search = place.path.endsWith("/search");
    if (!search || document.activeElement !== this.#search) this.#search.value = search ? (place.query.get("q") ?? "") : "";
    if (this.#view?.update && place.path === this.#path && !anew) return this.#view.update(place);
    this.#view?.leave?.();
    this.#path = place.path;
    const space = place.params.space ?? "";
    const changed = space !== this.#space;
    this.#space = space;
    const view = make();
    this.#view = view;
    entitle(view.title);
    this.#outlet.scrollTop = 0;
    fill(this.#outlet, view.element);
    const typing = document.activeElement === this.#search;
    if (view.entered) view.entered();
    if (typing) this.#search.focus();
    else if (document.activeElement === document.body) this.#outlet.focus();
    if (view.update) view.update(place);
    this.#showSide();
    if (changed) void this.#showUsage();
    return undefined;
  }

  // ---- the side ----

  #showSide() {
    const path = location.pathname;
    const { spaces } = session;
    const space = this.#space || session.me.personal_space_id;
    const within = (/** @type {string} */ base) =>
      (path === base || path.startsWith(`${base}/`)) && ![`${base}/trash`, `${base}/activity`, `${base}/settings`].includes(path);
    const link = (
      /** @type {string} */ href,
      /** @type {string} */ picture,
      /** @type {string} */ text,
      current = path === href,
    ) =>
      h(
        "li",
        null,
        h("a", { class: "side-link", href, "aria-current": current ? "page" : null }, icon(picture), h("span", null, text)),
      );
    const own = spaces.filter(({ personal }) => personal);
    const shared = spaces.filter(({ personal }) => !personal);
    fill(
      this.#side,
      h("ul", null, ...own.map(({ space_id }) => link(folderPath(space_id), "folder", "My files", within(folderPath(space_id))))),
      h(
        "div",
        { class: "side-head" },
        h("h2", null, "Shared spaces"),
        !session.me.guest &&
          h(
            "button",
            {
              type: "button",
              class: "icon-button small",
              "aria-label": "New space",
              title: "New space",
              on: { click: () => this.#newSpace() },
            },
            icon("plus"),
          ),
      ),
      shared.length
        ? h(
            "ul",
            null,
            ...shared.map((one) => link(folderPath(one.space_id), "space", spaceTitle(one), within(folderPath(one.space_id)))),
          )
        : h(
            "p",
            { class: "side-hint" },
            session.me.guest ? "Nobody shares a space with you at present." : "Make a space to work on files with other people.",
          ),
      session.invitations.length > 0 &&
        h("ul", null, link("/invitations", "people", `Invitations (${session.invitations.length})`, path === "/invitations")),
      h("div", { class: "side-head" }, h("h2", null, this.#spaceName(space))),
      h(
        "ul",
        null,
        link(`${folderPath(space)}/activity`, "activity", "Activity"),
        link(`${folderPath(space)}/trash`, "trash", "Trash"),
        session.space(space)?.personal === false && link(`${folderPath(space)}/settings`, "settings", "Space settings"),
      ),
      h(
        "div",
        { class: "side-foot" },
        this.#usage,
        h(
          "ul",
          null,
          session.me.admin && link("/admin", "people", "Administration", path.startsWith("/admin")),
          link("/settings", "settings", "Settings", path.startsWith("/settings")),
        ),
      ),
    );
  }

  /** @param {string} id */
  #spaceName(id) {
    const space = session.space(id);
    return space?.personal ? "In my files" : `In ${space ? spaceTitle(space) : "this space"}`;
  }

  async #showUsage() {
    const space = this.#space || session.me.personal_space_id;
    const usage = await call("GET", at`/v1/spaces/${space}/usage`).catch(() => ({}));
    const { used_bytes: used, quota_bytes: quota, unsealed_bytes: unsealed } = usage;
    if (used === undefined || space !== (this.#space || session.account?.personal_space_id)) return;
    const share = used < quota ? used / quota : 1;
    const text = `${bytes(used)} of ${bytes(quota)} used`;
    const bar = h("meter", { min: 0, max: 1, high: NEARLY_FULL, value: Math.min(1, share), "aria-label": "Space used" });
    bar.textContent = text;
    const waiting = unsealed ? `${bytes(unsealed)} uploaded and in no file yet: finish uploads, or wait a week` : "";
    fill(
      this.#usage,
      bar,
      h("span", { class: share >= NEARLY_FULL ? "usage-text nearly-full" : "usage-text" }, text),
      ...(waiting ? [h("span", { class: "usage-text" }, waiting)] : []),
    );
  }

  #newSpace() {
    this.#showDrawer(false);
    askText({
      title: "New space",
      label: "Name",
      action: "Create",
      hint: "A space is shared as a whole: everybody in it sees all of its files.",
      run: async (name) => {
        const space = await session.createSpace(name);
        router.go(folderPath(space.space_id));
        toast(`“${spaceTitle(space)}” is there. Share it to invite others.`);
      },
    });
  }

  /** @param {boolean} open */
  #showDrawer(open) {
    const was = this.element.classList.contains("drawer-open");
    this.element.classList.toggle("drawer-open", open);
    this.#drawer.setAttribute("aria-expanded", String(open));
    if (open) /** @type {HTMLElement | null} */ (this.#side.querySelector("a"))?.focus();
    else if (was && this.#side.contains(document.activeElement)) this.#drawer.focus();
  }

  // ---- the top ----

  #accountEntries() {
    const chosen = theme();
    const light = (/** @type {Theme} */ value, /** @type {string} */ label) => ({
      label,
      checked: chosen === value,
      run: () => setTheme(value),
    });
    return [
      { label: "Settings", icon: "settings", run: () => router.go("/settings") },
      { label: "Devices", icon: "device", run: () => router.go("/settings/devices") },
      { label: "Keyboard shortcuts", icon: "help", keys: "?", run: () => shortcutsDialog() },
      null,
      light("system", "Light or dark by the system"),
      light("light", "Light"),
      light("dark", "Dark"),
      null,
      { label: "Sign out", icon: "signOut", run: () => void session.signOut().catch(complain) },
    ];
  }

  #showConnection() {
    fill(
      this.#offline,
      live.connected ? null : [h("span", { class: "spinner" }), "Reconnecting… What others change shows when that is done."],
    );
  }

  /** The banner of an account whose address is not proven. */
  #showUnproven() {
    const { email, proven } = session.me;
    const again = async () => {
      await session.requestProof();
      toast(`Another mail was sent to ${email}.`);
    };
    fill(
      this.#unproven,
      proven
        ? null
        : [
            h("span", null, `Open the link in the mail to ${email} to prove your address. Until then nobody can share with you.`),
            h(
              "button",
              { type: "button", class: "link-button", on: { click: () => void again().catch(complain) } },
              "Send again",
            ),
          ],
    );
  }

  /** @param {Event} event */
  #skip(event) {
    event.preventDefault();
    this.#outlet.focus();
  }

  #find() {
    const text = this.#search.value.trim();
    const space = this.#space || session.me.personal_space_id;
    const searching = location.pathname.endsWith("/search");
    if (text) router.go(`${folderPath(space)}/search?q=${encodeURIComponent(text)}`, { replace: searching });
    else if (searching) router.go(folderPath(space), { replace: true });
  }

  /** @param {Event} event */
  #searchNow(event) {
    event.preventDefault();
    this.#find();
  }

  /** @param {KeyboardEvent} event */
  #searchKeyed(event) {
    if (event.key === "ArrowDown" || (event.key === "Escape" && !this.#search.value)) {
      event.preventDefault();
      /** @type {HTMLElement | null} */ (this.#outlet.querySelector(".row[tabindex='0']") ?? this.#outlet)?.focus();
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.#search.value = "";
      this.#find();
    }
  }
}
