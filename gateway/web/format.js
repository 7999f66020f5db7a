// @ts-check
/** Sizes, times and kinds, for people. */

/** @import {Node} from "./api.js" */

const UNITS = ["bytes", "KB", "MB", "GB", "TB", "PB"];
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const shortWithYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const dayName = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const hours = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const count = new Intl.NumberFormat();

/** @param {number} size */
export function bytes(size) {
  if (size === 1) return "1 byte";
  let value = size;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : Number(value.toFixed(1))} ${UNITS[unit]}`;
}

/**
 * The number of bytes in a text such as "50 GB" or "1.5T"; null for another text. Units are binary, as `bytes` shows them.
 * @param {string} text
 */
export function bytesIn(text) {
  const found = /^([0-9]{1,15}(?:[.][0-9]{1,6})?) ?([KMGTP]?)(?:i?B)?$/i.exec(text.trim());
  if (!found?.[1]) return null;
  return Math.trunc(Number(found[1]) * 1024 ** " KMGTP".indexOf((found[2] || " ").toUpperCase()));
}

/** How much of a quota is taken. @param {number} taken @param {number | null | undefined} quota */
export function takenOf(taken, quota) {
  return quota == null ? `${bytes(taken)} used, without a limit` : `${bytes(taken)} of ${bytes(quota)} used`;
}

/** @param {number} number @param {string} one @param {string} [many] */
export function plural(number, one, many = `${one}s`) {
  return `${count.format(number)} ${number === 1 ? one : many}`;
}

/** How long, from seconds. @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return "a moment";
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** How long ago a time was. @param {number} ms @param {number} [now] */
export function ago(ms, now = Date.now()) {
  const since = now - ms;
  if (since < MINUTE) return "just now";
  if (since < HOUR) return relative.format(-Math.floor(since / MINUTE), "minute");
  if (since < DAY) return relative.format(-Math.floor(since / HOUR), "hour");
  const days = Math.round((midnight(now) - midnight(ms)) / DAY);
  if (days < 7) return relative.format(-days, "day");
  const sameYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return (sameYear ? short : shortWithYear).format(ms);
}

/** @param {number} ms */
function midnight(ms) {
  return new Date(ms).setHours(0, 0, 0, 0);
}

/** The whole date and time. @param {number} ms */
export function exactly(ms) {
  return whole.format(ms);
}

/** The day, as a heading. @param {number} ms */
export function dayOf(ms) {
  const days = Math.round((midnight(Date.now()) - midnight(ms)) / DAY);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return dayName.format(ms);
}

/** @param {number} ms */
export function clock(ms) {
  return hours.format(ms);
}

/** A date to come. @param {number} ms */
export function dateOf(ms) {
  return shortWithYear.format(ms);
}

/** @type {Record<string, string[]>} */
const ENDINGS = {
  archive: ["7z", "bz2", "gz", "rar", "tar", "tgz", "xz", "zip", "zst"],
  audio: ["aac", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wav"],
  code: [
    ...["c", "cc", "cfg", "conf", "cpp", "cs", "css", "go", "h", "hpp", "htm", "html", "ini", "java", "js", "json", "jsx", "kt"],
    ...[
      "lua",
      "mjs",
      "php",
      "pl",
      "proto",
      "py",
      "rb",
      "rs",
      "scss",
      "sh",
      "sql",
      "swift",
      "toml",
      "ts",
      "tsx",
      "xml",
      "yaml",
      "yml",
    ],
  ],
  document: ["doc", "docx", "odt", "pages", "rtf"],
  image: ["avif", "bmp", "gif", "heic", "ico", "jpeg", "jpg", "png", "svg", "webp"],
  pdf: ["pdf"],
  sheet: ["csv", "numbers", "ods", "tsv", "xls", "xlsx"],
  slides: ["key", "odp", "ppt", "pptx"],
  video: ["avi", "m4v", "mkv", "mov", "mp4", "webm"],
  text: ["log", "md", "rst", "srt", "tex", "txt"],
};
const KINDS = new Map(Object.entries(ENDINGS).flatMap(([kind, endings]) => endings.map((ending) => [ending, kind])));
const NAMELESS = new Set(["dockerfile", "license", "makefile", "readme"]);

/** @type {Record<string, string>} */
const KIND_NAMES = {
  archive: "Archive",
  audio: "Audio",
  code: "Code",
  document: "Document",
  file: "File",
  folder: "Folder",
  image: "Image",
  link: "Symbolic link",
  pdf: "PDF",
  sheet: "Spreadsheet",
  slides: "Presentation",
  text: "Text",
  video: "Video",
};

/** What a node is to people, and how it is drawn. @param {Pick<Node, "kind" | "name" | "media_type">} node */
export function kindOf(node) {
  if (node.kind === "directory") return "folder";
  if (node.kind === "symlink") return "link";
  const ending = extension(node.name);
  const known = KINDS.get(ending);
  if (known) return known;
  const type = node.media_type ?? "";
  if (type === "application/pdf") return "pdf";
  const family = type.split("/")[0];
  if (family === "image" || family === "audio" || family === "video") return family;
  if (family === "text" || NAMELESS.has(node.name.toLowerCase())) return "text";
  return "file";
}

/** @param {string} kind */
export function kindName(kind) {
  return KIND_NAMES[kind] ?? "File";
}

/** What follows the last dot, in lower case. @param {string} name */
function extension(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(dot + 1).toLowerCase() : "";
}

/** @param {string} one @param {string} other */
export function byName(one, other) {
  return collator.compare(one, other) || (one < other ? -1 : Number(one > other));
}
