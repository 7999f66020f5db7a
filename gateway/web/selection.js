// @ts-check
/** Which entries of a list are selected, and which one the keys act on. */

/** Events: `change`. */
export class Selection extends EventTarget {
  /** @type {Set<string>} */
  ids = new Set();
  /** Where the keys are. @type {string | null} */
  active = null;
  /** Where a range began. @type {string | null} */
  #anchor = null;
  /** In the order of the list. @type {string[]} */
  #order = [];
  /** @type {Map<string, number>} */
  #places = new Map();

  get size() {
    return this.ids.size;
  }

  /** @param {string} id */
  has(id) {
    return this.ids.has(id);
  }

  /** @param {string} id @returns {number} -1 if it is not in the list */
  indexOf(id) {
    return this.#places.get(id) ?? -1;
  }

  get activeIndex() {
    return this.active === null ? -1 : this.indexOf(this.active);
  }

  /** The list has other entries now. @param {string[]} order */
  arrange(order) {
    const was = this.activeIndex;
    this.#order = order;
    this.#places = new Map(order.map((id, i) => [id, i]));
    const kept = [...this.ids].filter((id) => this.#places.has(id));
    const fewer = kept.length !== this.ids.size;
    if (fewer) this.ids = new Set(kept);
    // What stood there is gone: the one that moved up is next.
    if (this.active !== null && !this.#places.has(this.active)) this.active = order[Math.min(was, order.length - 1)] ?? null;
    if (this.#anchor !== null && !this.#places.has(this.#anchor)) this.#anchor = this.active;
    if (fewer) this.#changed();
  }

  /** Only this one. @param {string} id */
  only(id) {
    this.ids = new Set([id]);
    this.active = this.#anchor = id;
    this.#changed();
  }

  /** @param {string} id */
  toggle(id) {
    if (!this.ids.delete(id)) this.ids.add(id);
    this.active = this.#anchor = id;
    this.#changed();
  }

  /** From where a range began to here, and nothing else. @param {string} id */
  extend(id) {
    const from = this.indexOf(this.#anchor ?? this.active ?? id);
    const to = this.indexOf(id);
    this.ids = new Set(this.#order.slice(Math.min(from, to), Math.max(from, to) + 1));
    this.active = id;
    this.#changed();
  }

  /** The keys go there; nothing is selected by that. @param {string} id */
  moveTo(id) {
    this.active = this.#anchor = id;
    this.#changed();
  }

  all() {
    this.ids = new Set(this.#order);
    this.#changed();
  }

  clear() {
    if (!this.ids.size) return;
    this.ids = new Set();
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
