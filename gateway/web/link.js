// @ts-check
/** What a public link leads to, for visitors without an account. */

import { save } from "./actions.js";
import { Problem } from "./api.js";
import { changedCell, nameCell, sizeText, sorted } from "./cells.js";
import { byId, entitle, fill, h } from "./dom.js";
import { bytes, dateOf, kindName, kindOf, plural } from "./format.js";
import { icon, nodeIcon, sign } from "./icons.js";
import { FileList } from "./list.js";
import { openMenu } from "./menu.js";
import { router } from "./router.js";
import { complain } from "./toasts.js";
import { blank, failure, loading } from "./views/blank.js";
import { Preview } from "./views/preview.js";
import { Visit } from "./visit.js";
import { words } from "./words.js";

/** @import {Located, Node} from "./api.js" */

const PAUSE_MS = 600;

const app = byId("app");
// Links of earlier versions have their token in the path. Requests, and so the logs of proxies, do not have the fragment.
const [, , old] = location.pathname.split("/");
if (old) history.replaceState(history.state, "", `/l${location.search}#${old}`);
const token = location.hash.slice(1);
const visit = new Visit(token);
/** @type {FileList | null} */
let list = null;
/** @type {Preview | null} */
let preview = null;
let shown = "";
let order = { by: "name", down: false };

router.on("/l", () => ({ title: "", element: app }));
router.addEventListener("change", () => void show().catch(failed));
addEventListener("hashchange", () => location.reload()); // another link, which differs in nothing else
addEventListener("unhandledrejection", (event) => complain(event.reason));

fill(app, loading());
await open();

/** @param {string} [query] @returns {string} the address of a view of this link */
function at(query = "") {
  return `/l${query}#${token}`;
}

/** @param {string} [password] */
async function open(password) {
  try {
    await visit.open(password);
  } catch (error) {
    if (error instanceof Problem && error.reason === "LINK_PASSWORD_NEEDED") return ask("");
    if (error instanceof Problem && error.reason === "WRONG_PASSWORD") return ask("That is not the password of this link.");
    if (password !== undefined && error instanceof Problem && error.status === 429) return ask(words(error));
    return failed(error);
  }
  return show().catch(failed);
}

/** @param {unknown} error */
function failed(error) {
  shown = "";
  entitle("Nothing to see");
  fill(app, h("main", { class: "link-page" }, failure(words(error))));
}

/** @param {string} trouble */
function ask(trouble) {
  entitle("Password needed");
  const password = h("input", { type: "password", autocomplete: "off", maxlength: 1024, required: true });
  const submit = h("button", { type: "submit", class: "button primary wide" }, "Open");
  const form = h(
    "form",
    {
      class: "card",
      novalidate: true,
      on: {
        submit: (/** @type {Event} */ event) => {
          event.preventDefault();
          if (!password.value) return password.focus();
          submit.disabled = true;
          return void open(password.value);
        },
      },
    },
    h("div", { class: "brand" }, sign(), h("span", null, "Syncline")),
    h("h1", null, "This link has a password"),
    h("p", { class: "hint" }, "Whoever sent you the link knows it."),
    h("label", { class: "field" }, h("span", null, "Password"), password),
    h("p", { class: "trouble-text", role: "alert" }, trouble),
    submit,
  );
  fill(app, h("main", { class: "link-page" }, form));
  password.focus();
}

async function show() {
  const query = new URLSearchParams(location.search);
  const { node } = visit.link;
  if (node && node.kind !== "directory") return showFile(node);
  await showFolder(query.get("node") ?? visit.link.top);
  const wanted = query.get("preview");
  if (wanted) showPreview(wanted);
  else closePreview();
  return undefined;
}

/** @param {Element} content @param {Element} [button] */
function page(content, button) {
  fill(
    app,
    h(
      "div",
      { class: "link-scroll" },
      h(
        "header",
        { class: "link-top" },
        h("a", { class: "brand", href: "/", "aria-label": "Syncline" }, sign(), h("span", null, "Syncline")),
        button ?? null,
      ),
      h("main", { class: "link-stage" }, content),
    ),
  );
}

// ---- one file ----

/** @param {Node} node */
function showFile(node) {
  entitle(node.name);
  const kind = kindOf(node);
  const download = h(
    "button",
    { type: "button", class: "button primary", on: { click: () => save(visit.address(node, "attachment")) } },
    icon("download"),
    "Download",
  );
  const look = () =>
    openPreview(
      [node],
      node.id,
      () => {},
      () => (preview = null),
    );
  const previewing =
    !visit.counted && h("button", { type: "button", class: "button", on: { click: look } }, icon("eye"), "Preview");
  const picture =
    kind === "image" && !visit.counted && node.size
      ? h(
          "button",
          { type: "button", class: "link-picture", "aria-label": `Preview ${node.name}`, on: { click: look } },
          h("img", { src: visit.address(node, "inline"), alt: node.name }),
        )
      : nodeIcon(kind);
  page(
    h(
      "section",
      { class: "link-file" },
      picture,
      h("h1", null, node.name),
      h("p", { class: "hint" }, `${kindName(kind)}, ${bytes(node.size ?? 0)}${terms()}`),
      h("div", { class: "link-buttons" }, download, previewing),
    ),
  );
}

function terms() {
  const { expires_at_ms, max_downloads, downloads } = visit.link;
  const left = max_downloads === null ? "" : ` · ${plural(Math.max(0, max_downloads - downloads), "download")} left`;
  return `${left}${expires_at_ms ? ` · until ${dateOf(expires_at_ms)}` : ""}`;
}

// ---- a folder ----

/** @param {string} id */
async function showFolder(id) {
  if (shown === id) return;
  const { top, node } = visit.link;
  const [children, way] = await Promise.all([visit.children(id), wayTo(id)]);
  const name = way.at(-1)?.name ?? node?.name ?? "Shared space";
  entitle(name);
  list?.leave();
  const files = new FileList({
    label: "Files",
    columns: [
      {
        id: "name",
        title: "Name",
        sorts: true,
        cell: (child) => nameCell(child, { href: addressOf(id, child), below: [...changedCell(child), ` ${sizeText(child)}`] }),
      },
      { id: "changed", title: "Changed", sorts: true, cell: (child) => changedCell(child) },
      { id: "size", title: "Size", sorts: true, cell: sizeText },
    ],
    open: (child) => {
      const to = addressOf(id, child);
      if (to) router.go(to);
    },
    sort: (by) => {
      order = { by, down: order.by === by ? !order.down : by !== "name" };
      files.show(sorted(children, order), order);
    },
    menu: (where) =>
      openMenu([{ label: "Download", icon: "download", run: () => void saveAll(files.selected) }], {
        label: "Actions",
        ...where,
      }),
  });
  list = files;
  const whole = h(
    "button",
    {
      type: "button",
      class: "button primary",
      on: { click: () => save(visit.address({ id, kind: "directory" }, "attachment")) },
    },
    icon("download"),
    h("span", null, "Download all"),
  );
  const crumbs = [{ id: top, name: node?.name ?? "Shared space" }, ...way].map((crumb, i, all) =>
    h(
      "li",
      { class: i === all.length - 1 ? "crumb here" : "crumb" },
      i === all.length - 1
        ? h("h1", { "aria-current": "page" }, crumb.name)
        : h("a", { href: at(i ? `?node=${crumb.id}` : "") }, crumb.name),
    ),
  );
  page(
    h(
      "section",
      { class: "files" },
      h(
        "div",
        { class: "bar" },
        h("nav", { "aria-label": "Path" }, h("ol", { class: "crumbs" }, ...crumbs)),
        h("div", { class: "tools" }, h("span", { class: "hint" }, terms().replace(/^ · /, "")), children.length > 0 && whole),
      ),
      files.element,
      children.length
        ? null
        : blank({ picture: "folder", title: "This folder is empty", text: "Nothing has been put here yet." }),
    ),
  );
  files.element.hidden = !children.length;
  files.show(sorted(children, order), order);
  files.entered(/** @type {HTMLElement} */ (app.firstElementChild));
  files.focus();
  shown = id;
}

/** Below the top of the link. @param {string} id @returns {Promise<Located[]>} */
async function wayTo(id) {
  /** @type {Located[]} */
  const way = [];
  for (let now = id; now !== visit.link.top; ) {
    const found = await visit.node(now);
    way.unshift(found);
    now = found.parent;
  }
  return way;
}

/** @param {string} folder @param {Node} child */
function addressOf(folder, child) {
  if (child.kind === "directory") return at(`?node=${child.id}`);
  return child.kind === "file" && !visit.counted ? at(`?node=${folder}&preview=${child.id}`) : null;
}

/** One after the other: a browser does not take all at once. @param {Node[]} nodes */
async function saveAll(nodes) {
  for (const node of nodes) {
    save(visit.address(node, "attachment"));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

// ---- previews ----

/** @param {string} id */
function showPreview(id) {
  if (preview) return preview.turnTo(id);
  const files = (list?.items ?? []).filter((/** @type {Node} */ { kind }) => kind === "file");
  const folder = shown;
  openPreview(
    files,
    id,
    (to) => router.go(at(`?node=${folder}&preview=${to}`), { replace: true }),
    () => {
      preview = null;
      if (new URLSearchParams(location.search).has("preview")) router.back(at(`?node=${folder}`));
    },
  );
  return undefined;
}

/** @param {Node[]} nodes @param {string} id @param {(id: string) => void} turned @param {() => void} closed */
function openPreview(nodes, id, turned, closed) {
  preview = new Preview({ space: "", nodes, id, turned, closed, address: (node, how) => visit.address(node, how) });
}

function closePreview() {
  const open_ = preview;
  preview = null;
  open_?.close();
}
