/** The types of what the web app uses of `sha2.js`, whose own source is TypeScript. */

interface Hash {
  update(bytes: Uint8Array): this;
  digest(): Uint8Array;
}

export const sha256: { create(): Hash };
