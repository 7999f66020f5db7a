import assert from "node:assert/strict";
import { test } from "node:test";

import { copyName, nameProblem, normalized } from "../../../gateway/web/upload/names.js";
import { load } from "./vectors.js";

const { name_bytes: maxNameBytes, cases } = load("names");

for (const { name, nfc, valid } of cases) {
  test(`the name ${JSON.stringify(name).slice(0, 40)} is judged as by every client`, () => {
    assert.equal(normalized(name), nfc);
    assert.equal(nameProblem(nfc) === null, valid);
  });
}

test("a name of half a surrogate pair is refused", () => {
  assert.equal(nameProblem("\ud800"), "the name is not valid Unicode");
});

test("the number of a copy stands before the ending", () => {
  assert.equal(copyName("report.txt", 2), "report (2).txt");
  assert.equal(copyName("archive.tar.gz", 3), "archive.tar (3).gz");
});

test("a dot at the beginning, and what is too long for an ending, belong to the stem", () => {
  assert.equal(copyName(".profile", 2), ".profile (2)");
  const long = `a.${"b".repeat(33)}`;
  assert.equal(copyName(long, 2), `${long} (2)`);
});

test("the name of a copy fits, and is cut between characters", () => {
  const copy = copyName(`${"é".repeat(125)}.txt`, 10);
  assert.ok(new TextEncoder().encode(copy).length <= maxNameBytes);
  assert.match(copy, /^é+ \(10\)\.txt$/);
  assert.equal(nameProblem(copyName("👩".repeat(63), 2)), null);
});
