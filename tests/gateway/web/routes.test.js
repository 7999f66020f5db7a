import assert from "node:assert/strict";
import { test } from "node:test";

import { Routes } from "../../../gateway/web/routes.js";

const routes = /** @type {Routes<string>} */ (new Routes());
routes.add("/s/:space/trash", "trash");
routes.add("/s/:space", "space");
routes.add("/s/:space/:node", "node");
routes.add("/", "home");

test("the first route that matches counts", () => {
  assert.deepEqual(routes.find("/s/abc/trash"), { params: { space: "abc" }, make: "trash" });
  assert.deepEqual(routes.find("/s/abc/def"), { params: { space: "abc", node: "def" }, make: "node" });
});

test("a slash at the end makes no difference", () => {
  assert.deepEqual(routes.find("/s/abc/"), routes.find("/s/abc"));
  assert.equal(routes.find("/")?.make, "home");
});

test("parts of a path are decoded, and hold no slash", () => {
  assert.deepEqual(routes.find("/s/a%2Fb%20c")?.params, { space: "a/b c" });
  assert.equal(routes.find("/s/a/b/c"), null);
});

test("an address that leads nowhere has no route", () => {
  for (const path of ["", "/settings", "/s", "/x/s/abc", "/s//trash"]) {
    assert.equal(routes.find(path), null);
    assert.equal(routes.matches(path), false);
  }
  assert.equal(routes.matches("/s/abc"), true);
});

test("an address of which a part is no text leads nowhere", () => {
  assert.equal(routes.find("/s/%ff"), null);
  assert.equal(routes.find("/s/abc/%E0%A4%A"), null);
});

test("what is no name in a route stands for itself, whatever a pattern would make of it", () => {
  const literal = /** @type {Routes<string>} */ (new Routes());
  literal.add("/l/(a+)+$[b]", "odd");
  assert.equal(literal.matches("/l/(a+)+$[b]"), true);
  assert.equal(literal.matches("/l/aab"), false);
  literal.add("/docs.html", "docs");
  assert.equal(literal.matches("/docsxhtml"), false);
});
