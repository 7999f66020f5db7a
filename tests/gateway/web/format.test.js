import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, byName, bytes, bytesIn, duration, kindName, kindOf, plural, takenOf } from "../../../gateway/web/format.js";

test("a size has at most three digits and the unit that fits", () => {
  /** @type {[number, string][]} */
  const sizes = [
    [0, "0 bytes"],
    [1, "1 byte"],
    [999, "999 bytes"],
    [1000, "1 KB"],
    [1536, "1.5 KB"],
    [102_400, "100 KB"],
    [1024 * 1024 - 1, "1 MB"],
    [5 * 1024 ** 3, "5 GB"],
    [2 ** 60, "1024 PB"],
  ];
  for (const [size, shown] of sizes) assert.equal(bytes(size), shown);
});

test("a size is understood as it is shown, and as people type it", () => {
  /** @type {[string, number | null][]} */
  const texts = [
    ["50 GB", 50 * 1024 ** 3],
    ["1.5T", 1.5 * 1024 ** 4],
    ["  2 mib ", 2 * 1024 ** 2],
    ["4096", 4096],
    ["0", 0],
    ["", null],
    ["-1", null],
    ["much", null],
    ["1e3", null],
    ["1 G B", null],
  ];
  for (const [text, size] of texts) assert.equal(bytesIn(text), size, text);
});

test("of a quota is told how much is taken", () => {
  assert.equal(takenOf(1536, 1024 ** 2), "1.5 KB of 1 MB used");
  assert.equal(takenOf(0, 0), "0 bytes of 0 bytes used");
  assert.equal(takenOf(1536, null), "1.5 KB used, without a limit");
});

test("a number goes with the form of its noun", () => {
  assert.equal(plural(1, "file"), "1 file");
  assert.equal(plural(0, "file"), "0 files");
  assert.equal(plural(1234, "copy", "copies"), "1,234 copies");
});

test("a duration is told in seconds, minutes and hours", () => {
  /** @type {[number, string][]} */
  const durations = [
    [0.4, "a moment"],
    [1.2, "2 s"],
    [90, "2 min"],
    [3600, "1 h"],
    [5400, "1 h 30 min"],
  ];
  for (const [seconds, shown] of durations) assert.equal(duration(seconds), shown);
});

test("a time is told by how long ago it was, and by its date after a week", () => {
  const now = new Date(2026, 5, 15, 12).getTime();
  const minute = 60_000;
  assert.equal(ago(now - 59_000, now), "just now");
  assert.equal(ago(now - 5 * minute, now), "5 minutes ago");
  assert.equal(ago(now - 3 * 60 * minute, now), "3 hours ago");
  assert.equal(ago(now - 24 * 60 * minute, now), "yesterday");
  assert.equal(ago(new Date(2026, 5, 1).getTime(), now), "Jun 1");
  assert.equal(ago(new Date(2025, 5, 1).getTime(), now), "Jun 1, 2025");
});

test("the kind of a file is told by its ending, else by its type", () => {
  /** @param {string} name @param {string | null} [type] */
  const kind = (name, type = null) => kindOf({ kind: "file", name, media_type: type });
  assert.equal(kind("PHOTO.JPG"), "image");
  assert.equal(kind("a.tar.gz"), "archive");
  assert.equal(kind(".gitignore"), "file");
  assert.equal(kind("Makefile"), "text");
  assert.equal(kind("scan", "application/pdf"), "pdf");
  assert.equal(kind("clip", "video/mp4"), "video");
  assert.equal(kindOf({ kind: "directory", name: "a.jpg", media_type: null }), "folder");
  assert.equal(kindOf({ kind: "symlink", name: "a.jpg", media_type: null }), "link");
  assert.equal(kindName("sheet"), "Spreadsheet");
  assert.equal(kindName("unheard of"), "File");
});

test("names are ordered as people order them, and never equal unless they are the same", () => {
  assert.deepEqual(["b10", "B2", "a"].sort(byName), ["a", "B2", "b10"]);
  assert.equal(byName("a", "A"), -byName("A", "a"));
  assert.notEqual(byName("a", "A"), 0);
  assert.equal(byName("a", "a"), 0);
});
