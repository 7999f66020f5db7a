// @ts-check
/** What a new password must have. The server measures how strong it is, and says why it is not. */

/** Minimum length in characters. */
export const LEAST_PASSWORD = 8;
