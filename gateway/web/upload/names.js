// @ts-check
/** The rules of names, as `core/names.py` has them, and the names of copies. */

const MAX_NAME_BYTES = 255;
/** A longer "extension" is part of the name. */
const MAX_ENDING_BYTES = 32;

/**
 * The name as it travels: Unicode normal form C.
 * @param {string} name
 */
export function normalized(name) {
  return name.normalize("NFC");
}

/** @param {string} name */
function bytesOf(name) {
  return new TextEncoder().encode(name).length;
}

/**
 * Why this cannot be the name of a node, for people; null if it can.
 * @param {string} name in normal form
 * @returns {string | null}
 */
export function nameProblem(name) {
  if (!name) return "a name cannot be empty";
  if (name === "." || name === "..") return `“${name}” cannot be a name`;
  if (/[/\0]/.test(name)) return "a name cannot contain “/” or NUL";
  if (/\p{Surrogate}/u.test(name)) return "the name is not valid Unicode";
  const size = bytesOf(name);
  if (size > MAX_NAME_BYTES) return `the name has ${size} bytes; ${MAX_NAME_BYTES} are allowed`;
  return null;
}

/**
 * `report (2).txt` for `report.txt`, shortened where it would be too long.
 * @param {string} name
 * @param {number} number
 */
export function copyName(name, number) {
  const dot = name.lastIndexOf(".");
  const hasEnding = dot > 0 && bytesOf(name.slice(dot + 1)) <= MAX_ENDING_BYTES;
  const [stem, ending] = hasEnding ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  const letters = [...stem];
  const tail = ` (${number})${ending}`;
  while (letters.length > 1 && bytesOf(letters.join("") + tail) > MAX_NAME_BYTES) letters.pop();
  return letters.join("") + tail;
}
