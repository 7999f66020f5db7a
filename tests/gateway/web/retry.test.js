import assert from "node:assert/strict";
import { test } from "node:test";

import { delay, retryAfter } from "../../../gateway/web/upload/retry.js";

const patience = { attempts: 6, first: 500, longest: 4_000 };

test("each pause is at most twice the last one, and never longer than the longest", () => {
  for (const [i, limit] of [500, 1_000, 2_000, 4_000, 4_000].entries()) {
    const pause = delay(patience, i + 1);
    assert.ok(limit / 2 <= pause && pause <= limit, `${pause} of ${limit}`);
  }
});

test("a pause that the other side asks for is kept, and spread by at most the first one", () => {
  const pause = delay(patience, 1, 10_000);
  assert.ok(10_000 <= pause && pause <= 10_500, `${pause}`);
});

test("a Retry-After header holds seconds or a date", () => {
  assert.equal(retryAfter("2"), 2_000);
  assert.equal(retryAfter("0.5"), 500);
  assert.equal(retryAfter("-1"), 0);
  assert.equal(retryAfter("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
  assert.ok((retryAfter(new Date(Date.now() + 60_000).toUTCString()) ?? 0) > 50_000);
  assert.equal(retryAfter("soon"), null);
  assert.equal(retryAfter(""), null);
  assert.equal(retryAfter(null), null);
});
