// @ts-check
/** Types of the API's description, in words and tables. */

import { h } from "./dom.js";

/** @import {Child} from "./dom.js" */
/**
 * @typedef {{$ref?: string, type?: string, enum?: unknown[], const?: unknown, anyOf?: Schema[], oneOf?: Schema[], items?: Schema,
 *   prefixItems?: Schema[], properties?: Record<string, Schema>, required?: string[], additionalProperties?: Schema | boolean,
 *   description?: string, default?: unknown, format?: string, pattern?: string, minimum?: number, maximum?: number,
 *   minLength?: number, maxLength?: number, minItems?: number, maxItems?: number}} Schema
 */

/** @param {string} ref */
export function nameOf(ref) {
  return ref.split("/").at(-1) ?? ref;
}

/** @param {Schema | undefined} schema @returns {Child[]} */
export function typeOf(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) return [h("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return between(several.map(typeOf), " or ");
  if (schema.enum)
    return between(
      schema.enum.map((value) => [h("code", null, JSON.stringify(value))]),
      " or ",
    );
  if (schema.const !== undefined) return [h("code", null, JSON.stringify(schema.const))];
  if (schema.prefixItems) return ["[", ...between(schema.prefixItems.map(typeOf), ", "), "]"];
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items)];
  if (typeof schema.additionalProperties === "object") return ["object of ", ...typeOf(schema.additionalProperties)];
  return [schema.type ?? "anything"];
}

/** What is allowed, beside the type. @param {Schema} schema @returns {string} */
export function limitsOf(schema) {
  const whole = [schema, ...(schema.anyOf ?? [])];
  /** @type {string[]} */
  const limits = [];
  for (const one of whole) {
    if (one.minLength || one.maxLength) limits.push(`${range(one.minLength, one.maxLength)} characters`);
    if (one.minItems || one.maxItems) limits.push(`${range(one.minItems, one.maxItems)} of them`);
    if (one.minimum !== undefined || one.maximum !== undefined) limits.push(range(one.minimum, one.maximum));
    if (one.pattern) limits.push(`matches ${one.pattern}`);
  }
  if (schema.default !== undefined && schema.default !== null && schema.default !== "")
    limits.push(`${JSON.stringify(schema.default)} if left out`);
  return limits.join("; ");
}

/** @param {number} [least] @param {number} [most] */
function range(least, most) {
  if (most === undefined) return `at least ${least}`;
  return least ? `${least} to ${most}` : `at most ${most}`;
}

/** @param {Schema} schema */
export function propertiesOf(schema) {
  const rows = Object.entries(schema.properties ?? {});
  if (!rows.length) return h("p", { class: "hint" }, "No members.");
  return table(
    "Member",
    rows.map(([name, property]) => ({
      name,
      required: schema.required?.includes(name) ?? false,
      schema: property,
      text: property.description,
    })),
  );
}

/**
 * @param {string} title
 * @param {{name: string, required: boolean, schema: Schema, text?: string, where?: string}[]} rows
 */
export function table(title, rows) {
  return h(
    "div",
    { class: "table-box", tabindex: 0, role: "region", "aria-label": title },
    h(
      "table",
      null,
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", { scope: "col" }, title),
          h("th", { scope: "col" }, "Type"),
          h("th", { scope: "col" }, "What it is"),
        ),
      ),
      h(
        "tbody",
        null,
        ...rows.map(({ name, required, schema, text, where }) =>
          h(
            "tr",
            null,
            h(
              "th",
              { scope: "row" },
              h("code", null, name),
              required && h("span", { class: "required" }, "required"),
              where && h("span", { class: "where" }, where),
            ),
            h("td", null, ...typeOf(schema)),
            h("td", null, text ? withCode(text) : null, limitsOf(schema) && h("span", { class: "limits" }, limitsOf(schema))),
          ),
        ),
      ),
    ),
  );
}

/** Text in which backquotes mark code. @param {string} text @returns {Child[]} */
export function withCode(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", null, part) : part));
}

/** @param {Child[][]} many @param {string} sign @returns {Child[]} */
function between(many, sign) {
  return many.flatMap((one, i) => (i ? [sign, ...one] : one));
}
