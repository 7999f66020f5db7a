// @ts-check
/** What this browser remembers of how its user likes things. */

/** @param {string} name @param {string} otherwise */
export function preference(name, otherwise) {
  try {
    return localStorage.getItem(`syncline-${name}`) ?? otherwise;
  } catch {
    return otherwise; // storage may be forbidden
  }
}

/** @param {string} name @param {string} value */
export function prefer(name, value) {
  try {
    localStorage.setItem(`syncline-${name}`, value);
  } catch {
    // Then it holds until the page is closed.
  }
}

/** @typedef {"system" | "light" | "dark"} Theme */

/** @returns {Theme} */
export function theme() {
  return /** @type {Theme} */ (document.documentElement.dataset.theme ?? "system");
}

/** @param {Theme} chosen */
export function setTheme(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  prefer("theme", chosen);
}
