// @ts-check
/** Which keys do what. */

import { openDialog } from "../dialogs.js";
import { h } from "../dom.js";

/** @type {[string, [string[], string][]][]} */
const KEYS = [
  [
    "In a list",
    [
      [["↑", "↓"], "Go to the one above or below"],
      [["Shift", "↑ ↓"], "Select up to there"],
      [["Space"], "Select, or not"],
      [["Ctrl", "A"], "Select all"],
      [["Esc"], "Select nothing"],
      [["A … Z"], "Go to what begins with these letters"],
      [["Home"], "Go to the first; End: to the last"],
    ],
  ],
  [
    "With what is selected",
    [
      [["Enter"], "Open"],
      [["F2"], "Rename"],
      [["Del"], "Move to the trash"],
      [["Shift", "F10"], "All actions"],
      [["Backspace"], "Go to the folder above"],
      [["Ctrl", "Z"], "Undo what was done last"],
    ],
  ],
  [
    "In a preview",
    [
      [["←", "→"], "Show the previous or the next file"],
      [["Esc"], "Close"],
    ],
  ],
  [
    "Everywhere",
    [
      [["/"], "Search"],
      [["?"], "Show these keys"],
    ],
  ],
];

export function shortcutsDialog() {
  openDialog({
    title: "Keyboard shortcuts",
    size: "large",
    body: h(
      "div",
      { class: "shortcuts" },
      ...KEYS.map(([title, rows]) =>
        h(
          "section",
          null,
          h("h3", null, title),
          h(
            "dl",
            null,
            ...rows.map(([keys, text]) =>
              h("div", null, h("dt", null, ...keys.map((key) => h("kbd", null, key))), h("dd", null, text)),
            ),
          ),
        ),
      ),
    ),
  });
}
