// @ts-check
/** A lost password: the page where a mail is asked for, and the page of the link in that mail, where a new one is chosen. */

import { call } from "../api.js";
import { entitle, fill, h } from "../dom.js";
import { sign } from "../icons.js";
import { LEAST_PASSWORD } from "../passwords.js";
import { words } from "../words.js";

/** The address of both pages; the token of a mail is behind the `#`. */
export const RESET = "/reset";

/**
 * @param {{token: string, changed: () => void}} what `token` is that of the mail, empty to ask for a mail; `changed` is called when the
 *   password was changed
 */
export function resetView({ token, changed }) {
  return token ? choosingView(token, changed) : askingView();
}

function askingView() {
  const email = h("input", {
    type: "email",
    name: "email",
    autocomplete: "username",
    required: true,
    maxlength: 254,
    spellcheck: "false",
    autocapitalize: "none",
  });
  const submit = h("button", { type: "submit", class: "button primary wide" }, "Send the mail");
  const news = h("p", { class: "news", role: "status", hidden: true });
  return page({
    title: "Forgot your password?",
    text: "A mail with a link lets you choose a new one.",
    body: [news, h("label", { class: "field" }, h("span", null, "E-mail address"), email)],
    submit,
    first: email,
    run: async () => {
      if (!email.validity.valid) throw new Error("Enter your e-mail address, such as ann@example.com.");
      await call("POST", "/v1/resets", { body: { email: email.value }, quiet: true });
      fill(news, `If ${email.value} has an account, a mail is on its way. The link in it works for an hour.`);
      news.hidden = false;
      fill(submit, "Send again");
    },
  });
}

/** @param {string} token @param {() => void} changed */
function choosingView(token, changed) {
  const password = h("input", {
    type: "password",
    name: "password",
    required: true,
    maxlength: 1024,
    autocomplete: "new-password",
    "aria-describedby": "password-hint",
  });
  const hint = `At least ${LEAST_PASSWORD} characters; a sentence is easy to keep in mind.`;
  return page({
    title: "Choose a new password",
    text: "All your devices are signed out, and the keys of your programs end.",
    body: [h("label", { class: "field" }, h("span", null, "New password"), password, h("small", { id: "password-hint" }, hint))],
    submit: h("button", { type: "submit", class: "button primary wide" }, "Change password"),
    first: password,
    run: async () => {
      if (password.value.length < LEAST_PASSWORD) throw new Error(`The password needs at least ${LEAST_PASSWORD} characters.`);
      await call("POST", "/v1/resets/password", { body: { token, new_password: password.value }, quiet: true });
      changed();
    },
  });
}

/**
 * A page with one form. If `run` raises an error, the form says what went wrong.
 * @param {{title: string, text: string, body: import("../dom.js").Child[], submit: HTMLButtonElement, first: HTMLInputElement,
 *   run: () => Promise<void>}} what
 */
function page({ title, text, body, submit, first, run }) {
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const form = h(
    "form",
    { class: "card signin", novalidate: true, on: { submit: (/** @type {SubmitEvent} */ event) => void sent(event) } },
    h("div", { class: "brand" }, sign(), h("span", null, "Syncline")),
    h("h1", null, title),
    h("p", { class: "hint" }, text),
    ...body,
    trouble,
    submit,
    h("p", { class: "aside" }, h("a", { href: "/" }, "Go to the sign-in")),
  );
  const element = h("main", { class: "signin-page" }, form, h("p", { class: "fine" }, "Your files, the same on every device."));
  entitle(title);
  return { element, focus: () => first.focus() };

  /** @param {SubmitEvent} event */
  async function sent(event) {
    event.preventDefault();
    fill(trouble);
    submit.disabled = true;
    form.setAttribute("aria-busy", "true");
    try {
      await run();
    } catch (error) {
      fill(trouble, words(error));
      first.focus();
    } finally {
      submit.disabled = false;
      form.removeAttribute("aria-busy");
    }
  }
}
