// @ts-check
/** Names come from others, and must neither steer the text around them nor look like something else. */

// The same rule as in `syncline.model.printable`, which gives the reasons; line breaks and tabs mean nothing on a page.
const EMOJI = "\\u00a9\\u00ae\\u203c\\u2049\\u2122\\u2139\\u2190-\\u2bff\\u3030\\u303d\\u3297\\u3299\\u{1f000}-\\u{1faff}";
const JOINING = "\\u0620-\\u109f\\u1780-\\u18af";
const IDEOGRAPHS = "\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}";
const VARIANTS = "\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}";
const FLAGS = ["gbeng", "gbsct", "gbwls"].map((flag) =>
  [...`${flag}\x7f`].map((letter) => String.fromCodePoint(0xe0000 + (letter.codePointAt(0) ?? 0))).join(""),
);
const KEPT = [
  `(?<=[${EMOJI}]\\ufe0f?)\\u200d(?=[${EMOJI}])`,
  `(?<=[${EMOJI}])[\\ufe0e\\ufe0f]`,
  "(?<=[0-9#*])\\ufe0f(?=\\u20e3)",
  `(?<=[${JOINING}])[\\u200c\\u200d]`,
  `(?<=[${IDEOGRAPHS}])[\\ufe00-\\ufe02\\u{e0100}-\\u{e01ef}]`,
  "(?<=[\\u1820-\\u18aa])[\\u180b-\\u180d\\u180f]",
  `(?<=\\u{1f3f4})(?:${FLAGS.join("|")})`,
].join("|");
const STEERING = `(?![\\t\\n\\r\\u{1f000}-\\u{1faff}])[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u2800\\u3164\\uffa0\\u{1d159}${VARIANTS}]`;
const EITHER = new RegExp(`(${KEPT})|${STEERING}`, "gu");

/** The text with what steers or cannot be seen shown as `\u202e`. @param {string} text @returns {string} */
export function harmless(text) {
  return text.replace(EITHER, (found, kept) => kept ?? numbered(found.codePointAt(0) ?? 0));
}

/** @param {number} number */
function numbered(number) {
  if (number < 0x100) return `\\x${number.toString(16).padStart(2, "0")}`;
  return number < 0x10000 ? `\\u${number.toString(16).padStart(4, "0")}` : `\\U${number.toString(16).padStart(8, "0")}`;
}
