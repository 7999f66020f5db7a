import assert from "node:assert/strict";
import { test } from "node:test";

import { admits, admitted } from "../../../gateway/web/sign_up.js";

const OPEN = { policy: "open", domains: [] };
const INVITED = { policy: "invited", domains: [] };

/** @param {...string} domains */
function domainsOf(...domains) {
  return { policy: "domains", domains };
}

test("an address is admitted by its domain alone", () => {
  const offer = domainsOf("example.com", "example.org");
  assert.equal(admits(offer, "ann@Example.COM"), true);
  assert.equal(admits(offer, "ann@sub.example.com"), false);
  assert.equal(admits(offer, "ann@notexample.com"), false);
});

test("a domain in other letters is for the server to judge", () => {
  assert.equal(admits(domainsOf("bücher.example"), "ann@xn--bcher-kva.example"), true);
  assert.equal(admits(domainsOf("xn--bcher-kva.example"), "ann@bücher.example"), true);
});

test("what the server does not say is for the server to judge", () => {
  assert.equal(admits(null, "ann@example.com"), true);
  assert.equal(admits({ policy: "new", domains: [] }, "ann@example.com"), true);
  assert.equal(admits(OPEN, "ann@example.com"), true);
  assert.equal(admits(INVITED, "ann@example.com"), false);
});

test("who may make an account is said in words", () => {
  assert.equal(admitted(OPEN), "");
  assert.equal(admitted(null), "");
  assert.equal(admitted(domainsOf("example.com")), "Accounts here are for e-mail addresses of example.com.");
  assert.match(admitted(INVITED), /^Ask whoever runs/);
});
