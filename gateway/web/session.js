// @ts-check
/** Who is signed in, their spaces, and who the people in these are. */

import { at, call, everything, Problem, signedIn } from "./api.js";
import { folderPath } from "./router.js";

/** @import {Account, Device, Invitation, Member, PasswordChanged, Role, Space} from "./api.js" */

/**
 * Events: `signed-in`, `signed-out`, `account` when the account has changed, `spaces` when the list of spaces has changed,
 * `invitations` when the list of invitations has.
 */
class Session extends EventTarget {
  /** @type {Account | null} */
  account = null;
  /** @type {Device | null} */
  device = null;
  /** @type {Space[]} */
  spaces = [];
  /** The space to which the invitation of the sign-up in this page has led; empty for none. */
  invitedTo = "";
  /** @type {Map<string, Promise<Member[]>>} */
  #members = new Map();
  /** Who was looked for in a space and not found. @type {Set<string>} */
  #strangers = new Set();
  /** @type {Promise<Device[]> | null} */
  #devices = null;
  /** Invitations to spaces that wait for an answer. @type {Invitation[]} */
  invitations = [];

  constructor() {
    super();
    signedIn.lost = () => this.#leave();
    signedIn.renew = () => this.#renew();
  }

  /** Resume the session of the browser's cookie. @returns {Promise<boolean>} true if somebody is signed in */
  async resume() {
    try {
      await this.#enter(await call("GET", "/v1/session", { quiet: true }));
      return true;
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return false;
      throw error;
    }
  }

  /** @param {string} email @param {string} password @param {string} [code] of the second factor */
  async signIn(email, password, code = "") {
    const body = { ...credentials(email, password), code };
    await this.#enter(await call("POST", "/v1/sessions", { body, quiet: true }));
    this.dispatchEvent(new Event("signed-in"));
  }

  /** @param {string} email @param {string} password @param {string} [invitation] the token of an invitation */
  async signUp(email, password, invitation = "") {
    const body = { ...credentials(email, password), invitation };
    const answer = await call("POST", "/v1/accounts", { body, quiet: true });
    this.invitedTo = answer.space_id ?? "";
    await this.#enter(answer);
    this.dispatchEvent(new Event("signed-in"));
  }

  /** Prove the address of the account by the token that was mailed to it. @param {string} token */
  async proveAddress(token) {
    try {
      this.account = await call("POST", "/v1/session/proof", { body: { token } });
      this.dispatchEvent(new Event("account"));
      await this.loadSpaces();
      await this.loadInvitations();
    } catch (error) {
      // A request whose answer was lost has been repeated, and the token works once.
      if (!(error instanceof Problem) || error.reason !== "PROOF_INVALID") throw error;
      await this.loadAccount();
      if (!this.me.proven) throw error;
    }
  }

  /** Read the invitations to spaces that wait for an answer; an address that is not proven has none. */
  async loadInvitations() {
    const found = this.me.proven ? await everything("/v1/invitations", "invitations") : [];
    if (JSON.stringify(found) === JSON.stringify(this.invitations)) return;
    this.invitations = found;
    this.dispatchEvent(new Event("invitations"));
  }

  /** Become a member of a space to which one is invited. @param {string} space @returns {Promise<Space>} */
  async accept(space) {
    const joined = await call("POST", at`/v1/invitations/${space}/accept`);
    await this.loadSpaces();
    await this.loadInvitations();
    return joined;
  }

  /** @param {string} space */
  async decline(space) {
    await call("POST", at`/v1/invitations/${space}/decline`);
    await this.loadInvitations();
  }

  /** Where one begins: the own files, or for a guest, who has none, the first space of others. */
  get home() {
    const first = this.me.guest ? this.spaces.find(({ personal }) => !personal) : undefined;
    return folderPath(first?.space_id ?? this.me.personal_space_id);
  }

  /** Look whether the address was proven elsewhere. */
  async loadAccount() {
    const { account } = await call("GET", "/v1/session");
    if (account.user_id !== this.account?.user_id) return;
    this.account = account;
    this.dispatchEvent(new Event("account"));
  }

  /** Have another mail with such a token sent. */
  async requestProof() {
    await call("POST", "/v1/session/proof/resend");
  }

  /**
   * Change the password. All other devices are signed out.
   * @param {string} current @param {string} next
   * @returns {Promise<PasswordChanged>}
   */
  async changePassword(current, next) {
    const body = { current_password: current, new_password: next };
    const changed = await call("POST", "/v1/account/password", { body });
    this.forgetDevices();
    return changed;
  }

  async signOut() {
    signedIn.end.abort();
    await call("DELETE", "/v1/session", { quiet: true }).catch((error) => {
      if (error instanceof Problem && error.status === 401) return;
      signedIn.end = new AbortController();
      throw error;
    });
    this.#leave();
  }

  /** The signed-in account; only to be called while there is one. @returns {Account} */
  get me() {
    if (!this.account) throw new Error("nobody is signed in");
    return this.account;
  }

  async loadSpaces() {
    const told = await everything("/v1/spaces", "spaces");
    // Somebody else's personal space is just a shared one here.
    const own = this.account?.personal_space_id;
    const spaces = told.map((/** @type {Space} */ space) => ({ ...space, personal: space.space_id === own }));
    if (JSON.stringify(spaces) === JSON.stringify(this.spaces)) return;
    this.spaces = spaces;
    this.dispatchEvent(new Event("spaces"));
  }

  /** @param {string} name @returns {Promise<Space>} */
  async createSpace(name) {
    const space = await call("POST", "/v1/spaces", { body: { name } });
    await this.loadSpaces();
    return space;
  }

  /** @param {string} space @param {string} name @returns {Promise<Space>} */
  async renameSpace(space, name) {
    const renamed = await call("PATCH", at`/v1/spaces/${space}`, { body: { name } });
    await this.loadSpaces();
    return renamed;
  }

  /** The space stays in `spaces` until these are loaded again. @param {string} space @returns {Promise<Space>} */
  deleteSpace(space) {
    return call("DELETE", at`/v1/spaces/${space}`);
  }

  /** @param {string} space */
  async undeleteSpace(space) {
    await call("POST", at`/v1/spaces/${space}/undelete`);
    await this.loadSpaces();
  }

  /** @returns {Promise<Space[]>} */
  deletedSpaces() {
    return everything("/v1/deleted-spaces", "spaces");
  }

  /** Make somebody owner. @param {string} space @param {string} email @param {Role | null} keep what is left to us, if anything */
  async transferSpace(space, email, keep) {
    await call("POST", at`/v1/spaces/${space}/transfer`, { body: { email, keep_role: keep } });
    this.forgetMembers(space);
  }

  /** The space stays in `spaces` until these are loaded again. @param {string} space */
  async leaveSpace(space) {
    await call("DELETE", at`/v1/spaces/${space}/members/${this.me.email}`);
  }

  /** @param {string} id @returns {Space | undefined} */
  space(id) {
    return this.spaces.find((space) => space.space_id === id);
  }

  /** @param {string} space */
  mayChange(space) {
    return (this.space(space)?.role ?? "viewer") !== "viewer";
  }

  /** @param {string} space @returns {Promise<Member[]>} */
  members(space) {
    let members = this.#members.get(space);
    if (!members) {
      members = everything(at`/v1/spaces/${space}/members`, "members");
      this.#members.set(space, members);
      members.catch(() => this.#members.delete(space));
    }
    return members;
  }

  /** A member was added or removed. @param {string} space */
  forgetMembers(space) {
    this.#members.delete(space);
  }

  /** @returns {Promise<Device[]>} */
  devices() {
    this.#devices ??= everything("/v1/devices", "devices");
    this.#devices.catch(() => (this.#devices = null));
    return this.#devices;
  }

  forgetDevices() {
    this.#devices = null;
  }

  /**
   * What the people of a space are called. Who is not known to be in it may have come since, and is asked for once.
   * @param {string} space
   * @param {Iterable<string>} users who is to be named
   * @returns {Promise<(user: string) => string>}
   */
  async names(space, users) {
    let members = await this.members(space).catch(() => []);
    const known = new Set(members.map((member) => member.user_id));
    const strangers = [...users]
      .map((user) => `${space} ${user}`)
      .filter((one) => !known.has(one.split(" ")[1]) && !this.#strangers.has(one));
    if (strangers.length) {
      for (const stranger of strangers) this.#strangers.add(stranger);
      this.forgetMembers(space);
      members = await this.members(space).catch(() => []);
    }
    const names = new Map(members.map((member) => [member.user_id, member.email]));
    return (user) => (user === this.account?.user_id ? "you" : (names.get(user) ?? "a former member"));
  }

  /** @param {{account: Account, device: Device, csrf_token: string | null}} answer */
  async #enter({ account, device, csrf_token }) {
    signedIn.csrf = csrf_token ?? "";
    signedIn.end = new AbortController();
    this.account = account;
    this.device = device;
    await this.loadSpaces();
  }

  /** A sign-in in another tab: if it is a different account, this page is reloaded, since it shows data of the former one. */
  async #renew() {
    const { account, csrf_token } = await call("GET", "/v1/session", { quiet: true });
    if (account.user_id !== this.account?.user_id) {
      location.reload();
      return false;
    }
    signedIn.csrf = csrf_token ?? "";
    this.account = account;
    this.dispatchEvent(new Event("account"));
    return true;
  }

  #leave() {
    if (!this.account) return;
    this.account = this.device = this.#devices = null;
    this.spaces = [];
    this.invitations = [];
    this.invitedTo = "";
    this.#members.clear();
    this.#strangers.clear();
    signedIn.csrf = "";
    this.dispatchEvent(new Event("signed-out"));
  }
}

/** @param {string} email @param {string} password */
function credentials(email, password) {
  return { email, password, device_name: browserName(), browser: true };
}

/** What this browser is called in the list of devices. */
function browserName() {
  const agent = navigator.userAgent;
  const browser =
    [
      ["Edg/", "Edge"],
      ["OPR/", "Opera"],
      ["Firefox/", "Firefox"],
      ["Chrome/", "Chrome"],
      ["Safari/", "Safari"],
    ].find(([mark]) => agent.includes(mark))?.[1] ?? "Browser";
  const system =
    [
      ["Android", "Android"],
      ["iPhone", "iPhone"],
      ["iPad", "iPad"],
      ["Windows", "Windows"],
      ["Mac OS", "Mac"],
      ["CrOS", "ChromeOS"],
      ["Linux", "Linux"],
    ].find(([mark]) => agent.includes(mark))?.[1] ?? "";
  return system ? `${browser} on ${system}` : browser;
}

export const session = new Session();
