// @ts-check
/** Sign in, or sign up. The address stays what it is, so that one comes out where one wanted to go. */

import { call, Problem } from "../api.js";
import { entitle, fill, h } from "../dom.js";
import { sign } from "../icons.js";
import { LEAST_PASSWORD } from "../passwords.js";
import { session } from "../session.js";
import { admits, admitted, signUpOffer } from "../sign_up.js";
import { words } from "../words.js";
import { codeField } from "./factors.js";
import { RESET } from "./reset.js";

/** @import {PresentedInvitation} from "../api.js" */

/** The reasons of refusals that ask for a code of the second factor. */
const ABOUT_CODES = new Set(["SECOND_FACTOR_NEEDED", "WRONG_CODE"]);

/** What is offered in a space, by role. */
const AS = { viewer: "view", editor: "edit", owner: "own" };

/**
 * @param {{news?: string, invitation?: string}} [what] `news` says why this is shown, if somebody was signed in before; `invitation` is
 *   the token by which an account is made
 */
export function signInView({ news = "", invitation = "" } = {}) {
  let making = Boolean(invitation);
  /** Who may make an account, once the server has said so. @type {import("../sign_up.js").Offer | null} */
  let offer = null;
  /** The invitation, once the server has told it. @type {PresentedInvitation | null} */
  let invited = null;
  const title = h("h1", null);
  const offered = h("div", { class: "offered" });
  const email = h("input", {
    type: "email",
    name: "email",
    autocomplete: "username",
    required: true,
    maxlength: 254,
    spellcheck: "false",
    autocapitalize: "none",
    "aria-describedby": "email-hint",
  });
  const password = h("input", {
    type: "password",
    name: "password",
    required: true,
    maxlength: 1024,
    "aria-describedby": "password-hint",
  });
  const code = codeField("Code of your authenticator app");
  const codeLabel = h(
    "label",
    { class: "field", hidden: true },
    h("span", null, "Code of your authenticator app"),
    code,
    h("small", null, "Or a recovery code."),
  );
  const hint = h("small", { id: "password-hint" });
  const who = h("small", { id: "email-hint" });
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const submit = h("button", { type: "submit", class: "button primary wide" });
  const other = h("button", { type: "button", class: "link-button", on: { click: turn } });
  const question = h("span", null);
  const lost = h("p", { class: "aside" }, h("a", { href: RESET }, "Forgot password?"));
  const form = h(
    "form",
    { class: "card signin", novalidate: true, on: { submit: (/** @type {SubmitEvent} */ event) => void sent(event) } },
    h("div", { class: "brand" }, sign(), h("span", null, "Syncline")),
    title,
    news && h("p", { class: "news", role: "status" }, news),
    offered,
    h("label", { class: "field" }, h("span", null, "E-mail address"), email, who),
    h("label", { class: "field" }, h("span", null, "Password"), password, hint),
    codeLabel,
    trouble,
    submit,
    h("p", { class: "aside" }, question, " ", other),
    lost,
  );
  const element = h("main", { class: "signin-page" }, form, h("p", { class: "fine" }, "Your files, the same on every device."));
  dress();
  if (invitation) void lookAtInvitation();
  else
    void signUpOffer().then((told) => {
      offer = told;
      dress();
    });
  return { element, focus: () => email.focus() };

  function dress() {
    fill(title, making ? "Create your account" : "Sign in");
    fill(submit, making ? "Create account" : "Sign in");
    const closed = offer?.policy === "invited";
    fill(question, making ? "You have an account?" : closed ? `New here? ${admitted(offer)}` : "New here?");
    fill(other, making ? "Sign in" : "Create an account");
    other.hidden = closed && !making;
    lost.hidden = making;
    fill(hint, making ? `At least ${LEAST_PASSWORD} characters; a sentence is easy to keep in mind.` : "");
    fill(who, making ? (invitation ? "The address that was invited." : admitted(offer)) : "");
    password.autocomplete = making ? "new-password" : "current-password";
    entitle(making ? "Create your account" : "Sign in");
  }

  /** Show who invites to what. A token that is good for nothing is told when the form is sent. */
  async function lookAtInvitation() {
    try {
      invited = await call("POST", "/v1/invitations/open", { body: { token: invitation }, quiet: true });
    } catch {
      return;
    }
    if (invited?.email) {
      email.value = invited.email;
      email.readOnly = true;
      if (making) password.focus();
    }
    const space = invited?.space;
    if (!space) return;
    fill(
      offered,
      h("p", null, `${space.invited_by} invites you to ${AS[space.role]} “${space.space_name}”.`),
      invited?.guest && h("p", { class: "hint" }, "You will be a guest here: you work in this space, and have none of your own."),
      h("button", { type: "button", class: "link-button", on: { click: () => void decline() } }, "Decline this invitation"),
    );
  }

  async function decline() {
    fill(trouble);
    try {
      await call("POST", "/v1/invitations/refuse", { body: { token: invitation }, quiet: true });
      fill(
        element,
        h(
          "div",
          { class: "card signin" },
          h("h1", null, "Declined"),
          h("p", null, "You declined this invitation. You can close this page."),
        ),
      );
    } catch (error) {
      fill(trouble, words(error));
    }
  }

  function turn() {
    making = !making;
    codeLabel.hidden = true;
    code.value = "";
    fill(trouble);
    dress();
    email.readOnly = making && Boolean(invited?.email);
    (email.value ? password : email).focus();
  }

  /** @param {SubmitEvent} event */
  async function sent(event) {
    event.preventDefault();
    fill(trouble);
    if (!email.validity.valid) return wrong(email, "Enter your e-mail address, such as ann@example.com.");
    if (!password.value) return wrong(password, "Enter your password.");
    if (making && !admits(offer, email.value)) return wrong(email, admitted(offer));
    if (making && password.value.length < LEAST_PASSWORD)
      return wrong(password, `The password needs at least ${LEAST_PASSWORD} characters.`);
    submit.disabled = true;
    form.setAttribute("aria-busy", "true");
    try {
      await (making
        ? session.signUp(email.value, password.value, invitation)
        : session.signIn(email.value, password.value, code.value));
    } catch (error) {
      if (error instanceof Problem && ABOUT_CODES.has(error.reason)) {
        codeLabel.hidden = false;
        code.value = "";
        return wrong(code, words(error));
      }
      const isWeak = error instanceof Problem && error.reason === "WEAK_PASSWORD";
      wrong(making && !isWeak ? email : password, words(error));
    } finally {
      submit.disabled = false;
      form.removeAttribute("aria-busy");
    }
    return undefined;
  }

  /** @param {HTMLInputElement} field @param {string} text */
  function wrong(field, text) {
    fill(trouble, text);
    field.focus();
  }
}
