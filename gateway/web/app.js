// @ts-check
/** The app: the sign-in state decides whether the app is shown, the address decides the view. */

import { dialogIsOpen } from "./dialogs.js";
import { byId, fill, h } from "./dom.js";
import { live } from "./live.js";
import { folderPath, router } from "./router.js";
import { session } from "./session.js";
import { complain, undoLatest } from "./toasts.js";
import { startTransfers, stopTransfers } from "./transfers.js";
import { words } from "./words.js";
import { activityView } from "./views/activity.js";
import { administeredSpaceView, administeredUserView, administrationView } from "./views/administration.js";
import { failure } from "./views/blank.js";
import { filesView } from "./views/files.js";
import { invitationsView } from "./views/invitations.js";
import { proveView } from "./views/prove.js";
import { RESET, resetView } from "./views/reset.js";
import { searchView } from "./views/search.js";
import { settingsView } from "./views/settings.js";
import { Shell } from "./views/shell.js";
import { shortcutsDialog } from "./views/shortcuts.js";
import { signInView } from "./views/signin.js";
import { spaceSettingsView } from "./views/space_settings.js";
import { trashView } from "./views/trash.js";
import { UploadPanel } from "./views/upload_panel.js";

/** @import {View} from "./router.js" */

/** The address of an invitation, whose token is behind the `#`. */
const JOIN = "/join";
const SPACES_MS = 60_000;

const app = byId("app");
/** @type {Shell | null} */
let shell = null;
/** @type {UploadPanel | null} */
let panel = null;

router.on("/s/:space/trash", trashView);
router.on("/s/:space/activity", activityView);
router.on("/s/:space/search", searchView);
router.on("/s/:space/settings", spaceSettingsView);
router.on("/s/:space", filesView);
router.on("/s/:space/:node", filesView);
router.on("/settings", settingsView);
router.on("/settings/:section", settingsView);
router.on("/admin", administrationView);
router.on("/admin/:section", administrationView);
router.on("/admin/users/:user", administeredUserView);
router.on("/admin/spaces/:id", administeredSpaceView);
router.on("/prove", proveView);
router.on("/invitations", invitationsView);
router.on(JOIN, invitedView);
router.on("/", () => nowhere());

session.addEventListener("signed-in", () => {
  if (location.pathname === JOIN) {
    // The invitation is spent, and leads to its space.
    history.replaceState(null, "", session.invitedTo ? folderPath(session.invitedTo) : "/");
  }
  enter();
});
session.addEventListener("signed-out", () => leave("You are signed out."));
session.addEventListener("spaces", () => {
  if (!shell) return;
  live.again();
  show({ anew: true });
});
live.addEventListener("resumed", lookForSpaces);
document.addEventListener("visibilitychange", lookForSpaces);
setInterval(lookForSpaces, SPACES_MS);
router.addEventListener("change", () => show());
addEventListener("keydown", keyed);
addEventListener("unhandledrejection", (event) => complain(event.reason));
// Files that are dropped outside of a drop target would replace the page.
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => event.preventDefault());

if (location.pathname === RESET) {
  recover();
  addEventListener("hashchange", () => location.pathname === RESET && recover()); // the link in the mail is opened in this tab
} else {
  try {
    if (await session.resume()) enter();
    else leave();
  } catch (error) {
    fill(app, h("main", null, failure(words(error), { label: "Try again", href: location.href })));
  }
}

/** Choose another password for a lost one, whoever is signed in in this browser. */
function recover() {
  const changed = () => {
    history.replaceState(null, "", "/"); // the token is spent
    leave("Your password is changed. Sign in with the new one.");
  };
  const view = resetView({ token: location.hash.slice(1), changed });
  fill(app, view.element);
  view.focus();
}

function enter() {
  shell = new Shell();
  fill(app, shell.element);
  live.start();
  startTransfers(session.me.user_id);
  panel = new UploadPanel();
  app.append(panel.element);
  show();
  session.loadInvitations().catch(() => {});
}

function leave(news = "") {
  if (shell) {
    shell.leave();
    panel?.leave();
    shell = panel = null;
    live.stop();
    stopTransfers();
    for (const dialog of document.querySelectorAll("dialog[open]")) /** @type {HTMLDialogElement} */ (dialog).close();
  }
  const view = signInView({ news, invitation: location.pathname === JOIN ? location.hash.slice(1) : "" });
  fill(app, view.element);
  view.focus();
}

/** There is no doorbell for changes of membership or role, or for a proof, so the spaces and the account are read periodically. */
function lookForSpaces() {
  if (!shell || document.visibilityState !== "visible") return;
  session.loadSpaces().catch(() => {});
  if (!session.me.proven) session.loadAccount().catch(() => {});
}

function show({ anew = false } = {}) {
  if (!shell) return;
  if (location.pathname === "/") return router.go(session.home, { replace: true });
  const found = router.find();
  const place = found?.place ?? { path: location.pathname, params: {}, query: new URLSearchParams() };
  const known = !place.params.space || session.space(place.params.space);
  shell.show(known ? place : { ...place, params: {} }, () => (found && known ? found.make(place) : nowhere()), anew);
  return undefined;
}

/** @returns {View} */
function invitedView() {
  const prove = session.me.proven ? "" : " If the invitation is for this address, prove the address: the space is there then.";
  const text = `You are signed in as ${session.me.email}. Sign out to make another account by this invitation.${prove}`;
  return { title: "Invitation", element: failure(text, { label: "Go to my files", href: "/" }) };
}

/** @returns {View} */
function nowhere() {
  const text = "There is nothing at this address, the space that it is in was deleted, or you are not a member of that space.";
  return { title: "Not found", element: failure(text, { label: "Go to my files", href: "/" }) };
}

/** @param {KeyboardEvent} event */
function keyed(event) {
  const target = event.target instanceof HTMLElement ? event.target : null;
  const control = event.ctrlKey || event.metaKey;
  if (
    !shell ||
    event.defaultPrevented ||
    dialogIsOpen() ||
    target?.closest("input:not([type=checkbox]), textarea, select, dialog, [role=menu]")
  )
    return;
  if (event.key === "/" && !control) shell.focusSearch();
  else if (event.key === "?" && !control) shortcutsDialog();
  else if (!(event.key === "z" && control && undoLatest())) return;
  event.preventDefault();
}
