// @ts-check
/** The audit log, newest first, for administrators. */

import { at } from "../api.js";
import { fill, h } from "../dom.js";
import { plural } from "../format.js";
import { time } from "../times.js";
import { listing } from "./listing.js";

/** @import {AuditEvent} from "../api.js" */

const PAGE = 50;

/** @param {HTMLElement} part */
export function auditPart(part) {
  const involving = field("Address or id of somebody or something", new URLSearchParams(location.search).get("involving") ?? "");
  const kind = field("Kind, such as sign_in.failed", "");
  const events = listing({
    name: "events",
    row: eventRow,
    none: "The audit log has no such event.",
    more: "Show earlier",
    kind: "audit",
  });
  const again = () =>
    events.show(at`/v1/admin/audit?page_size=${PAGE}&involving=${involving.value.trim()}&kind=${kind.value.trim()}`);
  // Half a kind or address finds nothing, so that nothing is asked while somebody types.
  for (const input of [involving, kind]) input.addEventListener("change", () => void again());
  fill(part, h("section", null, h("h2", null, "Audit log"), h("div", { class: "filters" }, involving, kind), events.element));
  void again();
}

/** @param {string} label @param {string} value */
function field(label, value) {
  return h("input", {
    type: "text",
    class: "filter-text",
    placeholder: label,
    "aria-label": label,
    value,
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 254,
  });
}

/** @param {AuditEvent} event */
function eventRow({ at_ms, kind, result, actor, subjects, network, request_id, count, details }) {
  const by = [actor.kind, actor.name, actor.user_id].filter(Boolean).join(" ");
  const about = subjects.map((one) => `${one.kind} ${one.id}`).join(", ");
  const more = Object.entries(details).map(([name, text]) => `${name.replaceAll("_", " ")}: ${text}`);
  const where = [network && `from ${network}`, request_id && `request ${request_id}`].filter(Boolean);
  return h(
    "li",
    { class: "audit-event" },
    h(
      "p",
      null,
      h("strong", null, kind),
      result !== "done" && h("span", { class: "badge" }, result),
      count > 1 && h("span", { class: "badge" }, plural(count, "time")),
      " ",
      time(at_ms),
    ),
    h("p", { class: "hint" }, [`by ${by}`, about && `about ${about}`, ...more, ...where].filter(Boolean).join(" · ")),
  );
}
