// @ts-check
/** The dialog in which administrators set a quota. */

import { askText } from "../dialogs.js";
import { bytes, bytesIn } from "../format.js";

/**
 * @param {{
 *   whose: string,
 *   quota: number | null | undefined,
 *   hint: string,
 *   run: (quota: number | null) => unknown,
 * }} wanted `quota` is the present one in bytes, if one was set; `run` gets the new one, null for the usual quota.
 */
export function quotaDialog({ whose, quota, hint, run }) {
  askText({
    title: `Quota of ${whose}`,
    label: "Quota, such as 50 GB; empty for the usual one",
    value: quota == null ? "" : bytesIn(bytes(quota)) === quota ? bytes(quota) : String(quota),
    action: "Set quota",
    hint,
    optional: true,
    run: async (text) => {
      const wanted = text ? bytesIn(text) : null;
      if (text && wanted === null) throw new Error("Enter a size such as 50 GB or 1.5 TB, or nothing.");
      await run(wanted);
    },
  });
}
