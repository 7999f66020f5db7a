// @ts-check
/** Who may make an account here, as the server says it. */

import { call } from "./api.js";

/** @typedef {{policy: string, domains: string[]}} Offer */

/** Ask the server who may make an account. @returns {Promise<Offer | null>} null if it does not say so */
export async function signUpOffer() {
  try {
    const { sign_up: offer } = await call("GET", "/.well-known/syncline", { quiet: true });
    return offer ?? null;
  } catch {
    return null; // the answer to a sign-up says it as well
  }
}

/**
 * True unless the server would refuse a sign-up with this address. The server compares domains in Unicode, and has the last word.
 * @param {Offer | null} offer
 * @param {string} email
 */
export function admits(offer, email) {
  if (offer?.policy !== "domains") return offer?.policy !== "invited";
  const domain = email.slice(email.lastIndexOf("@") + 1).toLowerCase();
  return offer.domains.includes(domain) || /[^\x20-\x7e]|xn--/.test(domain + offer.domains.join());
}

/**
 * Who may make an account, in words; empty where everybody may.
 * @param {Offer | null} offer
 */
export function admitted(offer) {
  if (offer?.policy === "invited") return "Ask whoever runs this Syncline to let you in.";
  if (offer?.policy === "domains") return `Accounts here are for e-mail addresses of ${offer.domains.join(", ")}.`;
  return "";
}
