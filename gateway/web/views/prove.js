// @ts-check
/** The page of the link in a mail: it proves that the address of the signed-in account is its owner's. */

import { h } from "../dom.js";
import { folderPath, router } from "../router.js";
import { session } from "../session.js";
import { toast } from "../toasts.js";
import { words } from "../words.js";

/** @import {View} from "../router.js" */

/** @returns {View} */
export function proveView() {
  const { email } = session.me;
  const token = location.hash.slice(1);
  const trouble = h("p", { class: "trouble-text", role: "alert" });
  const button = h(
    "button",
    { type: "button", class: "button primary", on: { click: () => void prove() } },
    "Prove this address",
  );
  const element = h(
    "div",
    { class: "blank" },
    h("h1", null, "Prove your address"),
    session.me.proven
      ? h("p", null, `${email} is proven. There is nothing more to do.`)
      : [h("p", null, `You are signed in as ${email}. Is this address yours?`), trouble, button],
  );
  return { title: "Prove your address", element };

  async function prove() {
    button.disabled = true;
    trouble.textContent = "";
    try {
      await session.proveAddress(token);
      toast(`${email} is proven.`);
      router.go(folderPath(session.me.personal_space_id), { replace: true });
    } catch (error) {
      trouble.textContent = words(error);
    } finally {
      button.disabled = false;
    }
  }
}
