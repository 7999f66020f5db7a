// @ts-check
/** The console of administrators: users, shared spaces, the audit log, and the policy by which people come in. */

import { call } from "../api.js";
import { fill, h } from "../dom.js";
import { bytes, plural } from "../format.js";
import { session } from "../session.js";
import { words } from "../words.js";
import { spacePage, spacesPart } from "./admin_spaces.js";
import { userPage, usersPart } from "./admin_users.js";
import { auditPart } from "./audit.js";
import { failure, loading } from "./blank.js";
import { sectionsFrame, sectionsView } from "./sections.js";

/** @import {SignUpRules} from "../api.js" */
/** @import {Place, View} from "../router.js" */
/** @import {Section} from "./sections.js" */

const BASE = "/admin";
const TITLE = "Administration";
const DAY_SECONDS = 86_400;

/** @type {Record<SignUpRules["sign_up_policy"], string>} */
const POLICIES = {
  invited: "Only people who are invited make an account.",
  domains: "People who are invited make an account, and people with an address of one of these domains:",
  open: "Everybody makes an account.",
};

/** @type {Section[]} */
const SECTIONS = [
  ["users", "Users", "people", usersPart],
  ["spaces", "Shared spaces", "space", spacesPart],
  ["audit", "Audit log", "history", auditPart],
  ["policy", "Who may come in", "lock", policyPart],
];

/** @param {Place} place @returns {View} */
export function administrationView({ params: { section = "users" } }) {
  return session.me.admin ? sectionsView({ title: TITLE, base: BASE, sections: SECTIONS, section }) : forbidden();
}

/** One user. @param {Place} place @returns {View} */
export function administeredUserView({ params: { user } }) {
  return below("users", "User", (part) => userPage(part, user));
}

/** One shared space. @param {Place} place @returns {View} */
export function administeredSpaceView({ params: { id } }) {
  return below("spaces", "Shared space", (part) => spacePage(part, id));
}

/** @param {string} section @param {string} title @param {(part: HTMLElement) => void} show @returns {View} */
function below(section, title, show) {
  if (!session.me.admin) return forbidden();
  const part = h("div", { class: "settings-part" });
  show(part);
  return { title, element: sectionsFrame({ title: TITLE, base: BASE, sections: SECTIONS, section, part }) };
}

/** @returns {View} */
function forbidden() {
  const text = "Only an administrator of this Syncline can see this. Ask one.";
  return { title: "Not for you", element: failure(text, { label: "Go to my files", href: "/" }) };
}

/** @param {HTMLElement} part */
function policyPart(part) {
  const rules = h("div", { class: "stacked" }, loading());
  fill(part, h("section", null, h("h2", null, "Who may come in"), rules));
  void show();

  async function show() {
    try {
      dress(await call("GET", "/v1/admin/policy"));
    } catch (error) {
      fill(rules, h("p", { class: "trouble-text", role: "alert" }, words(error)));
    }
  }

  /** @param {SignUpRules} found */
  function dress(found) {
    const proofs = found.prove_addresses
      ? "Addresses are proven by a mail before others can share with them."
      : "Addresses count as proven without a mail.";
    fill(
      rules,
      h("p", null, POLICIES[found.sign_up_policy]),
      found.sign_up_domains.length > 0 && h("ul", null, ...found.sign_up_domains.map((domain) => h("li", null, domain))),
      h("p", null, proofs),
      h("p", null, `An invitation is valid for ${plural(Math.round(found.invitation_seconds / DAY_SECONDS), "day")}.`),
      h(
        "p",
        null,
        `A suspended user loses the credentials of the storage after ${plural(Math.round(found.credential_seconds / 60), "minute")} at most.`,
      ),
      h(
        "p",
        null,
        `A space holds up to ${bytes(found.space_quota_bytes)}`,
        found.user_quota_bytes != null && `, and all spaces of a user together up to ${bytes(found.user_quota_bytes)}`,
        ", unless another quota was set.",
      ),
      h("p", { class: "hint" }, "The policy is set where the services are started."),
    );
  }
}
