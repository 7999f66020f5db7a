// @ts-check
/** Placeholders for empty views. */

import { h } from "../dom.js";
import { icon } from "../icons.js";

/** @import {Child} from "../dom.js" */

/** @param {{picture: string, title: string, text: string, buttons?: Child[]}} what */
export function blank({ picture, title, text, buttons = [] }) {
  return h(
    "div",
    { class: "empty" },
    h("div", { class: "empty-picture" }, icon(picture)),
    h("h2", null, title),
    h("p", null, text),
    buttons.length > 0 && h("div", { class: "empty-buttons" }, ...buttons),
  );
}

/** @param {string} text @param {{label: string, href: string}} [way] */
export function failure(text, way) {
  return h(
    "div",
    { class: "empty", role: "alert" },
    h("div", { class: "empty-picture" }, icon("warning")),
    h("h2", null, "That did not work"),
    h("p", null, text),
    way && h("div", { class: "empty-buttons" }, h("a", { class: "button", href: way.href }, way.label)),
  );
}

/** While something is loaded that takes longer than one would notice. */
export function loading() {
  return h(
    "div",
    { class: "loading", role: "status" },
    h("span", { class: "spinner" }),
    h("span", { class: "unseen" }, "Loading…"),
  );
}
