import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem } from "../../../gateway/web/api.js";
import { words } from "../../../gateway/web/words.js";

/** @param {Partial<ConstructorParameters<typeof Problem>[0]>} told */
function problem(told) {
  return new Problem({ status: 400, reason: "", detail: "", ...told });
}

test("a known reason has words of its own", () => {
  assert.equal(
    words(problem({ reason: "WRONG_PASSWORD", detail: "no" })),
    "The e-mail address or the password is wrong. Correct it and try again.",
  );
});

test("a verdict becomes a sentence", () => {
  assert.equal(words(problem({ reason: "NAME_TAKEN" })), "There is something of that name already.");
});

test("an unknown reason is told in the words of the server", () => {
  assert.equal(words(problem({ reason: "NEW", detail: " the moon is full" })), "The moon is full.");
});

test("a refusal that ends by itself says when", () => {
  const asked = { status: 429, reason: "RATE_EXCEEDED" };
  const told = "You make these requests faster than one person may. Wait a moment, then try again.";
  assert.equal(words(problem(asked)), told);
  assert.equal(words(problem({ ...asked, retryAfter: 1500 })), `${told} (try again in 2 seconds)`);
  assert.equal(words(problem({ ...asked, retryAfter: 600_000 })), `${told} (try again in 10 minutes)`);
  assert.equal(words(problem({ ...asked, status: 503, retryAfter: 1500 })), told);
});

test("another error is told by its message, if it has one", () => {
  assert.equal(words(new Error("no space left")), "No space left.");
  assert.equal(words(new Error("")), "Something went wrong.");
  assert.equal(words("thrown text"), "Something went wrong.");
});
