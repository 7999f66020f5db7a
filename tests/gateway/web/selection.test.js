import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Selection } from "../../../gateway/web/selection.js";

let selection = new Selection();
let changes = 0;

beforeEach(() => {
  selection = new Selection();
  changes = 0;
  selection.addEventListener("change", () => changes++);
  selection.arrange(["a", "b", "c", "d"]);
});

test("a range goes from where it began to the last entry", () => {
  selection.only("c");
  selection.extend("a");
  assert.deepEqual([...selection.ids], ["a", "b", "c"]);
  selection.extend("d");
  assert.deepEqual([...selection.ids], ["c", "d"]);
  assert.equal(changes, 3);
});

test("an entry is added and taken away alone", () => {
  selection.toggle("a");
  selection.toggle("d");
  selection.toggle("a");
  assert.deepEqual([...selection.ids], ["d"]);
  assert.equal(selection.active, "a");
});

test("what has gone is not selected any more, and the keys stand on the entry that moved up", () => {
  selection.only("b");
  selection.arrange(["a", "c", "d"]);
  assert.equal(selection.size, 0);
  assert.equal(selection.active, "c");
  assert.equal(changes, 2);
});

test("an arrangement that keeps the selection is no change", () => {
  selection.only("b");
  selection.arrange(["d", "b"]);
  assert.ok(selection.has("b"));
  assert.deepEqual([selection.activeIndex, changes], [1, 1]);
});

test("everything is selected, and nothing", () => {
  selection.all();
  assert.equal(selection.size, 4);
  selection.clear();
  selection.clear();
  assert.deepEqual([selection.size, changes], [0, 2]);
});
