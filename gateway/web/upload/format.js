// @ts-check
/**
 * The sizes that decide where bytes lie in storage: those of `core/blocks.py`. With one of them changed, nothing that a
 * browser stores would be recognised by the other clients, and the other way round.
 */

export const KIB = 1024;
export const MIB = 1024 * KIB;

export const MIN_BLOCK_BYTES = 512 * KIB;
export const AVG_BLOCK_BYTES = 2 * MIB;
export const MAX_BLOCK_BYTES = 8 * MIB;

/** A pack is closed when it reaches this size; none is larger than PACK_BYTES + MIN_BLOCK_BYTES. */
export const PACK_BYTES = 8 * MIB;
export const MAX_PACK_ENTRIES = 4096;
/** No object that is sealed is larger. */
export const MAX_OBJECT_BYTES = 16 * MIB;
/** A content of more blocks keeps its manifest in an object of its own. */
export const MAX_INLINE_BLOCKS = 1024;

export const DIGEST_BYTES = 32;
