import assert from "node:assert/strict";
import { test } from "node:test";

import { spaceTitle } from "../../../gateway/web/space_title.js";

test("a space is called by its name, and by its alias where that says more", () => {
  const space = (/** @type {string} */ name, /** @type {string} */ alias, personal = false) =>
    spaceTitle({ name, alias, personal });
  assert.equal(space("personal", "personal", true), "My files");
  assert.equal(space("Harbour", "Harbour"), "Harbour");
  assert.equal(space("Harbour", "Harbour (abc123)"), "Harbour (abc123)");
  assert.equal(space("Pier", "Harbour"), "Pier (Harbour)");
});
