// @ts-check
/** The interface for programs, as its description tells it. */

import { call } from "./api.js";
import { byId, debounced, fill, h } from "./dom.js";
import { icon, sign } from "./icons.js";
import { limitsOf, nameOf, propertiesOf, table, typeOf, withCode } from "./schema.js";
import { failure, loading } from "./views/blank.js";
import { words } from "./words.js";

/** @import {Schema} from "./schema.js" */
/**
 * @typedef {{schema?: Schema}} Media
 * @typedef {{description?: string, content?: Record<string, Media>}} Body
 * @typedef {{operationId: string, tags?: string[], summary?: string, description?: string, security?: Record<string, string[]>[],
 *   parameters?: {name: string, in: string, required?: boolean, description?: string, schema: Schema}[],
 *   requestBody?: Body, responses: Record<string, Body>}} Operation
 * @typedef {{info: {title: string, description?: string}, paths: Record<string, Record<string, Operation>>,
 *   components: {schemas: Record<string, Schema>, securitySchemes?: Record<string, {description?: string, type: string}>}}} Description
 * @typedef {{method: string, path: string, operation: Operation}} Entry
 */

const METHODS = ["get", "post", "put", "patch", "delete"];
const TYPED_MS = 120;

const app = byId("app");
fill(app, loading());
try {
  show(await call("GET", "/openapi.json", { quiet: true }));
} catch (error) {
  fill(app, h("main", null, failure(words(error))));
}

/** @param {Description} description */
function show(description) {
  const groups = grouped(description);
  const schemas = Object.entries(description.components.schemas);
  const operationPart = operationParts(description.components.schemas);
  const search = h("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Search operations and types",
    autocomplete: "off",
  });
  const status = h("p", { class: "unseen", role: "status" });
  const none = h("p", { class: "hint none", hidden: true }, "Nothing of that is in the description.");
  fill(
    app,
    h(
      "div",
      { class: "reference" },
      h(
        "nav",
        { class: "reference-side", "aria-label": "Operations" },
        h("a", { class: "brand", href: "/" }, sign(), h("span", null, "Syncline")),
        h("div", { class: "reference-search" }, icon("search"), search),
        status,
        ...[...groups].map(([tag, entries]) =>
          h("section", { class: "side-group" }, h("h2", null, capital(tag)), h("ul", null, ...entries.map(sideLink))),
        ),
        h(
          "section",
          { class: "side-group" },
          h("h2", null, "Types"),
          h(
            "ul",
            null,
            ...schemas.map(([name]) =>
              h("li", { data: { words: name.toLowerCase() } }, h("a", { href: `#schema-${name}` }, name)),
            ),
          ),
        ),
      ),
      h(
        "main",
        { class: "reference-main" },
        h("h1", null, "Interface for programs"),
        ...(description.info.description ?? "").split(/\n\n+/).map((text) => h("p", null, ...withCode(text))),
        h(
          "p",
          null,
          "The description as a machine reads it: ",
          h("a", { href: "/openapi.json" }, "/openapi.json"),
          " (OpenAPI 3.1).",
        ),
        none,
        ...[...groups].map(([tag, entries]) =>
          h("section", { class: "group" }, h("h2", null, capital(tag)), ...entries.map(operationPart)),
        ),
        h("section", { class: "group" }, h("h2", null, "Types"), ...schemas.map(([name, schema]) => schemaPart(name, schema))),
      ),
    ),
  );
  search.addEventListener(
    "input",
    debounced(TYPED_MS, () => filter(search.value, status, none)),
  );
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === search) return;
    event.preventDefault();
    search.focus();
  });
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

/** @param {Description} description @returns {Map<string, Entry[]>} */
function grouped({ paths }) {
  /** @type {Map<string, Entry[]>} */
  const groups = new Map();
  for (const [path, operations] of Object.entries(paths)) {
    for (const method of METHODS) {
      const operation = operations[method];
      if (!operation) continue;
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), { method, path, operation }]);
    }
  }
  return groups;
}

/** @param {Entry} entry */
function wordsOf({ method, path, operation }) {
  return [method, path, operation.operationId, operation.summary, operation.description].join(" ").toLowerCase();
}

/** @param {Entry} entry */
function sideLink(entry) {
  const { method, operation } = entry;
  return h(
    "li",
    { data: { words: wordsOf(entry) } },
    h("a", { href: `#${operation.operationId}` }, badge(method), h("span", null, operation.summary ?? operation.operationId)),
  );
}

/** @param {string} method */
function badge(method) {
  return h("span", { class: `method ${method}` }, method.toUpperCase());
}

/** @param {Record<string, Schema>} schemas @returns {(entry: Entry) => HTMLElement} */
function operationParts(schemas) {
  return (entry) => operationPart(entry, schemas);
}

/** @param {Entry} entry @param {Record<string, Schema>} schemas */
function operationPart(entry, schemas) {
  const { method, path, operation } = entry;
  const { operationId: id, description, parameters = [], requestBody, responses, security } = operation;
  const [good, bad] = [[], []].map((_, wrong) =>
    Object.entries(responses).filter(([status]) => Number(status) >= 400 === Boolean(wrong)),
  );
  return h(
    "article",
    { class: "operation", id, data: { words: wordsOf(entry) } },
    h(
      "h3",
      null,
      operation.summary ?? id,
      h("a", { class: "anchor", href: `#${id}`, "aria-label": `Address of ${operation.summary ?? id}` }, "#"),
    ),
    h(
      "p",
      { class: "line" },
      badge(method),
      h("code", null, ...pathParts(path)),
      !security && h("span", { class: "open" }, "without signing in"),
    ),
    description && h("p", null, ...withCode(description)),
    parameters.length > 0 &&
      table(
        "Parameter",
        parameters.map((one) => ({
          name: one.name,
          required: Boolean(one.required),
          schema: one.schema,
          text: one.description,
          where: one.in,
        })),
      ),
    requestBody && bodyPart("Body", requestBody),
    requestBody && membersPart("Members of the body", requestBody, schemas),
    ...good.flatMap(([status, body]) => [
      bodyPart(`Answer ${status}`, body),
      membersPart("Members of the answer", body, schemas),
    ]),
    bad.length > 0 &&
      h(
        "p",
        { class: "problems" },
        "Problems: ",
        ...bad.flatMap(([status, { description: text }], i) => [
          i ? ", " : "",
          h("span", { title: text ?? "" }, h("code", null, status)),
        ]),
        ", each a ",
        h("a", { href: "#schema-Problem" }, "Problem"),
        ".",
      ),
  );
}

/** @param {string} path */
function pathParts(path) {
  return path
    .split(/(\{[^}]+\})/)
    .map((part) => (part.startsWith("{") ? h("var", null, part.slice(1, -1).replace(/:.*/, "")) : part));
}

/** @param {string} title @param {Body} body */
function bodyPart(title, { description = "", content = {} }) {
  const [media] = Object.entries(content);
  const told = description && description !== "Successful Response" ? withCode(description) : [];
  return h(
    "p",
    { class: "body" },
    h("strong", null, title),
    " ",
    ...(media
      ? [
          ...(media[1].schema && Object.keys(media[1].schema).length ? typeOf(media[1].schema) : ["content"]),
          media[0] === "application/json" ? "" : ` as ${media[0]}`,
        ]
      : ["nothing"]),
    told.length > 0 && " – ",
    ...told,
  );
}

/**
 * What a body consists of, to be unfolded where it is needed.
 * @param {string} title
 * @param {Body} body
 * @param {Record<string, Schema>} schemas
 */
function membersPart(title, { content = {} }, schemas) {
  const ref = Object.values(content)[0]?.schema?.$ref;
  const schema = ref ? schemas[nameOf(ref)] : undefined;
  return schema?.properties ? h("details", null, h("summary", null, title), propertiesOf(schema)) : null;
}

/** @param {string} name @param {Schema} schema */
function schemaPart(name, schema) {
  return h(
    "article",
    { class: "operation", id: `schema-${name}`, data: { words: `${name} ${schema.description ?? ""}`.toLowerCase() } },
    h("h3", null, name),
    schema.description && h("p", null, ...withCode(schema.description)),
    schema.properties ? propertiesOf(schema) : h("p", null, ...typeOf(schema), " ", limitsOf(schema)),
  );
}

/** @param {string} text @param {HTMLElement} status @param {HTMLElement} none */
function filter(text, status, none) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-words]"))) {
    const here = wanted.every((word) => element.dataset.words?.includes(word));
    element.hidden = !here;
    if (here && element.matches("article")) found += 1;
  }
  for (const group of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".group, .side-group"))) {
    group.hidden = !group.querySelector("[data-words]:not([hidden])");
  }
  none.hidden = found > 0;
  fill(status, wanted.length ? `${found} found` : "");
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
