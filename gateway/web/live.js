// @ts-check
/** Doorbells: news that a space has changed, for as long as the page is open. */

const SILENCE_MS = 60_000;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
/** Browsers have few connections to one server: a tab that nobody looks at keeps none for long. */
const UNSEEN_MS = 30_000;

/**
 * Events: `doorbell`, a CustomEvent with `detail.space`; `resumed` when changes may have been missed; `state` when `connected`
 * changes.
 */
class Live extends EventTarget {
  /** @type {EventSource | null} */
  #source = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #leaving;
  #wait = FIRST_WAIT_MS;
  #opened = false;
  #connected = false;

  get connected() {
    return this.#connected;
  }

  start() {
    this.stop();
    this.#opened = false;
    this.#connect();
    addEventListener("online", this.#retry);
    document.addEventListener("visibilitychange", this.#seen);
  }

  stop() {
    removeEventListener("online", this.#retry);
    document.removeEventListener("visibilitychange", this.#seen);
    clearTimeout(this.#leaving);
    this.#disconnect();
    this.#wait = FIRST_WAIT_MS;
    this.#connected = false;
  }

  /** The spaces that are watched are those of the time of asking. */
  again() {
    if (this.#source || this.#timer) this.#connect();
  }

  #seen = () => {
    clearTimeout(this.#leaving);
    if (document.visibilityState === "visible") return this.#retry();
    this.#leaving = setTimeout(() => {
      this.#disconnect();
      this.#become(false);
    }, UNSEEN_MS);
    return undefined;
  };

  #retry = () => {
    if (!this.#connected && document.visibilityState === "visible") {
      this.#wait = FIRST_WAIT_MS;
      this.#connect();
    }
  };

  #connect() {
    this.#disconnect();
    const source = new EventSource("/v1/events");
    this.#source = source;
    source.addEventListener("doorbell", (event) => {
      this.#alive();
      this.dispatchEvent(new CustomEvent("doorbell", { detail: { space: JSON.parse(event.data).space_id } }));
    });
    source.addEventListener("heartbeat", () => this.#alive());
    source.addEventListener("open", () => {
      this.#alive();
      // Doorbells between two streams are lost.
      if (this.#opened) this.dispatchEvent(new Event("resumed"));
      this.#opened = true;
    });
    source.addEventListener("error", () => this.#later());
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#source?.close();
    this.#source = null;
  }

  #alive() {
    this.#wait = FIRST_WAIT_MS;
    this.#become(true);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), SILENCE_MS);
  }

  /** EventSource gives up for good where the answer is an error, so all attempts are made here. */
  #later() {
    this.#become(false);
    this.#disconnect();
    this.#timer = setTimeout(() => this.#connect(), this.#wait * (0.5 + Math.random()));
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  /** @param {boolean} connected */
  #become(connected) {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.dispatchEvent(new Event("state"));
  }
}

export const live = new Live();
