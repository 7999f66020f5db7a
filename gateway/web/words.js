// @ts-check
/** What went wrong, in plain words. */

import { Problem } from "./api.js";
import { VERDICTS } from "./verdicts.js";

/** By the reason of a problem that is no verdict. @type {Record<string, string>} */
const WORDS = {
  ACCOUNT_EXISTS: "There is an account with that e-mail address already. Sign in instead.",
  ADDRESS_TAKEN: "This e-mail address was proven for another account. Sign in with that account instead.",
  ADDRESS_UNPROVEN: "Prove your e-mail address first: open the link in the mail that was sent to it.",
  CONTENDED: "Many people are changing this space right now. Try again in a moment.",
  CSRF: "This page is out of date. Reload it and try again.",
  ACCOUNT_SUSPENDED: "This account is suspended. Ask an administrator of this system to resume it.",
  DEVICE_REVOKED: "This browser was signed out from another device. Sign in again.",
  ETAG_MISMATCH: "Somebody else has changed it. Look at it again, and repeat your change if you still want it.",
  FACTOR_EXISTS: "You have a second factor already. Remove it before you add another one.",
  GUEST: "Guests work in the spaces of others. Ask whoever runs this Syncline to make you more than a guest.",
  INTERNAL: "Something went wrong on our side. Try again in a moment.",
  INVITATION_INVALID:
    "This invitation was used, has expired, or is for another address. Ask the person who invited you for another one.",
  LAST_OWNER: "A space needs at least one owner. Make somebody else owner first, transfer the space, or delete it.",
  LINK_EXHAUSTED: "This link allows no more downloads. Ask the person who gave it to you for another one.",
  NO_SUCH_ACCOUNT: "Nobody has an account with that e-mail address.",
  NO_SUCH_DEVICE: "That device is not signed in any more. Reload the page.",
  NO_SUCH_FACTOR: "There is no second factor. Reload the page.",
  NO_SUCH_INVITATION: "This invitation was taken up, declined or revoked, or has expired. Ask for another one.",
  NO_SUCH_LINK: "This link does not exist, or is not valid any more. Ask the person who gave it to you for another one.",
  NO_SUCH_NODE: "It is not there any more. Look for it in the trash.",
  NO_SUCH_SPACE: "There is no such space, or you are not a member of it.",
  NO_SUCH_VERSION: "That version is not kept any more. Choose another one.",
  OFFLINE: "The server cannot be reached. Check your connection.",
  PERMISSION_DENIED: "Your role in this space does not allow that. Ask an owner for another role.",
  PROOF_INVALID: "This link was used, has expired, or belongs to another account. Have another mail sent to your address.",
  RATE_EXCEEDED: "You make these requests faster than one person may. Wait a moment, then try again.",
  RESET_INVALID:
    "This link was used, has expired, or the password was changed since. If you have just changed it, sign in; otherwise ask for another mail.",
  SECOND_FACTOR_NEEDED: "Enter the code of your authenticator app, or a recovery code.",
  SIGN_UP_CLOSED: "You cannot make an account here with that e-mail address. Ask whoever runs this Syncline to let you in.",
  SPACE_DELETED: "This space was deleted. Its owners can undelete it for a while, with everything that was in it.",
  TOKEN_EXPIRED: "You were away for a long time. Sign in again.",
  TOKEN_INVALID: "You are signed out. Sign in again.",
  TOKEN_MALFORMED: "You are signed out. Sign in again.",
  TOO_MUCH_AT_ONCE: "Too many requests are in progress at once. Wait a moment, then try again.",
  TOO_MANY_ATTEMPTS: "Too many attempts. Wait a while, then try again.",
  UNAUTHENTICATED: "You are signed out. Sign in again.",
  UNAVAILABLE: "The server does not answer right now. Try again in a moment.",
  WRONG_CODE: "This code is wrong, was used, or is too old. Enter the one that the app shows now, or a recovery code.",
  WRONG_CURRENT_PASSWORD: "The current password is wrong. Correct it and try again.",
  WRONG_PASSWORD: "The e-mail address or the password is wrong. Correct it and try again.",
};

/**
 * An error for people.
 * @param {unknown} error
 * @returns {string}
 */
export function words(error) {
  if (error instanceof Problem) {
    const known = WORDS[error.reason] ?? sentence(VERDICTS[error.reason] ?? error.detail);
    return error.retryAfter && error.status === 429 ? `${known} (${waiting(error.retryAfter / 1000)})` : known;
  }
  return error instanceof Error && error.message ? sentence(error.message) : "Something went wrong.";
}

/** @param {number} seconds */
function waiting(seconds) {
  const minutes = Math.ceil(seconds / 60);
  return seconds < 90 ? `try again in ${Math.ceil(seconds)} seconds` : `try again in ${minutes} minutes`;
}

/** @param {string} text */
function sentence(text) {
  const trimmed = text.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?)]$/.test(capital) ? capital : `${capital}.`;
}
