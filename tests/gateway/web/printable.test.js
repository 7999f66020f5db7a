import assert from "node:assert/strict";
import { test } from "node:test";

import { harmless } from "../../../gateway/web/printable.js";

// tests/model/test_printable.py compares the rule for every character with that of Python.

test("characters that steer the text around them are shown by their number", () => {
  assert.equal(harmless("report\u202efdp.exe"), "report\\u202efdp.exe");
  assert.equal(harmless("a\x1b[2Jb"), "a\\x1b[2Jb");
  assert.equal(harmless("a\u{e0041}b"), "a\\U000e0041b");
});

test("ordinary text, emoji and the letters that join stay as they are", () => {
  for (const text of ["größe – 東京", "👩\u200d🚀", "می\u200cخ", "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}"]) {
    assert.equal(harmless(text), text);
  }
});

test("a joiner between letters that do not join is shown", () => {
  assert.equal(harmless("a\u200db"), "a\\u200db");
});
