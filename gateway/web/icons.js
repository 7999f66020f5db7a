// @ts-check
/** Icons: strokes on a grid of 24, drawn in the colour of the text around them. */

const SVG = "http://www.w3.org/2000/svg";

const PAPER = "M7 3h6.5L18 7.5V19a2 2 0 0 1-2 2H8a2 2 0 0 1-2-2V4a1 1 0 0 1 1-1zM13.5 3v4.5H18";

/** @type {Record<string, string>} */
const STROKES = {
  activity: "M3 12h4l3-7 4 14 3-7h4",
  archive: "M4 5h16v4H4zM5.5 9v9a2 2 0 0 0 2 2h9a2 2 0 0 0 2-2V9M10 13h4",
  arrow: "M12 19V5M6 11l6-6 6 6",
  back: "M15 5l-7 7 7 7",
  bell: "M6 16V11a6 6 0 1 1 12 0v5l1.5 2h-15zM10 21h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  chevron: "M9 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h9a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 18 21H9a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 9 9zM4.5 15V4.5A1.5 1.5 0 0 1 6 3h9",
  device: "M4 5h16v11H4zM9 20h6M12 16v4",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  edit: "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19zM13.5 7l3.5 3.5",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  file: PAPER,
  folder: "M3 7.5A1.5 1.5 0 0 1 4.5 6h4.6l2 2.5h8.4A1.5 1.5 0 0 1 21 10v7.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5z",
  folderPlus:
    "M3 7.5A1.5 1.5 0 0 1 4.5 6h4.6l2 2.5h8.4A1.5 1.5 0 0 1 21 10v7.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5zM12 11v5M9.5 13.5h5",
  globe:
    "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3 12h18M12 3c2.5 2.6 3.8 5.6 3.8 9s-1.3 6.4-3.8 9c-2.5-2.6-3.8-5.6-3.8-9S9.5 5.6 12 3z",
  grid: "M4 4h6.5v6.5H4zM13.5 4H20v6.5h-6.5zM4 13.5h6.5V20H4zM13.5 13.5H20V20h-6.5z",
  help: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.5 9.5a2.5 2.5 0 1 1 3.6 2.3c-.7.4-1.1.9-1.1 1.7M12 16.6v.1",
  history: "M4 12a8 8 0 1 0 2.5-5.8L4 8.5M4 4v4.5h4.5M12 8v4.5l3 1.8",
  image: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM4 16.5l5-5 5 5 2-2 4 4M15.5 9.5v.1",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.6v.1",
  key: "M14.5 4a5.5 5.5 0 1 1-4.8 8.2L4 18v2.5h3.5V18H10v-2.5M16 8.5v.1",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1.2 1.2M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1.2-1.2",
  list: "M9 6h11M9 12h11M9 18h11M4.5 6v.1M4.5 12v.1M4.5 18v.1",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  menu: "M4 7h16M4 12h16M4 17h16",
  more: "M12 6v.1M12 12v.1M12 18v.1",
  move: "M3 7.5A1.5 1.5 0 0 1 4.5 6h4.6l2 2.5h8.4A1.5 1.5 0 0 1 21 10v7.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5zM8.5 13.5h6.5M12.5 11l2.5 2.5-2.5 2.5",
  next: "M9 5l7 7-7 7",
  pause: "M9 5.5v13M15 5.5v13",
  people:
    "M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.5-3.6 3.2-5.5 6.5-5.5s6 1.9 6.5 5.5M15.5 5a3.2 3.2 0 0 1 0 6M18 15c2 .8 3.2 2.5 3.5 5",
  play: "M8 5.5v13l10.5-6.5z",
  plus: "M12 5v14M5 12h14",
  restore: "M4 9.5h10a5 5 0 0 1 0 10H8M8 5.5l-4 4 4 4",
  retry: "M20 12a8 8 0 1 1-2.5-5.8L20 8.5M20 4v4.5h-4.5",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4.5 4.5",
  settings: "M4 7h9M17 7h3M15 5v4M4 12h3M11 12h9M9 10v4M4 17h9M17 17h3M15 15v4",
  signOut: "M14 4H6.5A1.5 1.5 0 0 0 5 5.5v13A1.5 1.5 0 0 0 6.5 20H14M10 12h10M16.5 8.5L20 12l-3.5 3.5",
  sort: "M7 5v14M4 16l3 3 3-3M13 6h7M13 11h5M13 16h3",
  space: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  trash: "M5 7h14M9.5 7V4.5h5V7M7 7l.8 12a1.5 1.5 0 0 0 1.5 1.5h5.4a1.5 1.5 0 0 0 1.5-1.5L17 7M10.5 11v5.5M13.5 11v5.5",
  upload: "M12 16V5M7 9.5l5-5 5 5M5 20h14",
  warning: "M12 4l9 16H3zM12 10v4.5M12 17.3v.1",
};

/** The symbol on the icon of each kind of file. @type {Record<string, string>} */
const MARKS = {
  archive: "M11 4v2M12.5 6v2M11 8v2M12.5 10v2M11 12.5h2v3h-2z",
  audio: "M10.5 17V11.5l4-1V16M9 18.2a1.5 1.2 0 1 0 0-.1M13 17.2a1.5 1.2 0 1 0 0-.1",
  code: "M10 12l-2 2.5 2 2.5M14 12l2 2.5-2 2.5",
  document: "M9 12h6M9 14.8h6M9 17.5h3.5",
  file: "",
  image: "M7.5 18l3-3.5 2 2 1.5-1.5 2.5 3M13.8 12.2v.1",
  link: "M9 17l6-5M11.5 12H15v3.5",
  pdf: "M9 17.5c2.5-1.5 3.5-4 3.2-6-.1-.8-1-.7-1 .1.2 2.4 2 4 4.8 4.1",
  sheet: "M9 12h6v6H9zM9 15h6M12 12v6",
  slides: "M8.8 12.5h6.4v4.5H8.8z",
  text: "M9 12h6M9 15h6M9 18h4",
  video: "M10.3 12.3v4.8l4.2-2.4z",
};

/**
 * @param {string} name
 * @param {string} [className]
 */
export function icon(name, className = "") {
  return drawing([STROKES[name]], `icon ${name === "more" ? "dots" : ""} ${className}`);
}

/**
 * The picture of a node: a folder, or paper with a mark.
 * @param {string} kind as `kindOf` tells it
 */
export function nodeIcon(kind) {
  if (kind === "folder") return drawing([STROKES.folder], "icon node-icon filled kind-folder");
  return drawing([PAPER, MARKS[kind] ?? ""].filter(Boolean), `icon node-icon filled kind-${kind}`);
}

/** The sign of Syncline: two sheets in step. */
export function sign() {
  return drawing(
    ["M4 9.5a8 8 0 0 1 14.2-2.6L20 9M20 4.5V9h-4.5", "M20 14.5a8 8 0 0 1-14.2 2.6L4 15M4 19.5V15h4.5", "M9 12h6"],
    "icon sign",
  );
}

/**
 * @param {string[]} paths
 * @param {string} className
 */
function drawing(paths, className) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  for (const d of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
