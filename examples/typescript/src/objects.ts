/** What storage holds: blocks and packs of blocks, named by the SHA-256 of their bytes, and manifests that say where a content lies. */

import { createHash } from "node:crypto";

import protobuf from "protobufjs";

import type { ObjectDeclaration } from "./gen/syncline/metadata/v1/ObjectDeclaration.js";
import type { Manifest__Output } from "./gen/syncline/metadata/v1/Manifest.js";
import { PROTOS } from "./session.js";

export const PACK_BYTES = 8 * 1024 * 1024;
export const PACK_ENTRIES = 4096;
export const INLINE_BLOCKS = 1024;
export const MAX_OBJECT_BYTES = 16 * 1024 * 1024;

/** One block of a content: the bytes [offset, offset + length) of an object. Digests are lower-case hex. */
export interface BlockRef {
  digest: string;
  length: number;
  object: string;
  offset: number;
}

export interface Stored {
  digest: string;
  bytes: Buffer;
  declaration: ObjectDeclaration;
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The id of the node that mutation `index` of a request creates. */
export function nodeId(space: string, request: Buffer, index: number): string {
  const number = Buffer.alloc(4);
  number.writeUInt32BE(index);
  return sha256(Buffer.concat([Buffer.from(`syncline node\0${space}\0`), request, number])).slice(0, 32);
}

export function singleBlock(digest: string, bytes: Buffer): Stored {
  return { digest, bytes, declaration: { sha256: Buffer.from(digest, "hex"), size: bytes.length } };
}

/** Collects blocks shorter than MIN_BLOCK_BYTES, each of them once. */
export class PackBuilder {
  readonly offsets = new Map<string, number>();
  readonly #parts: Buffer[] = [];
  #size = 0;

  get full(): boolean {
    return this.#size >= PACK_BYTES || this.#parts.length >= PACK_ENTRIES;
  }

  get empty(): boolean {
    return !this.#parts.length;
  }

  /** At which offset the block lies. The pack must not be full. */
  add(digest: string, bytes: Buffer): number {
    let offset = this.offsets.get(digest);
    if (offset === undefined) {
      offset = this.#size;
      this.offsets.set(digest, offset);
      this.#parts.push(bytes);
      this.#size += bytes.length;
    }
    return offset;
  }

  /** The pack; one of a single block is just that block, which is proven without being read. */
  close(): Stored {
    const bytes = Buffer.concat(this.#parts);
    const digest = sha256(bytes);
    if (this.#parts.length === 1) return singleBlock(digest, bytes);
    const pack = {
      blocks: Buffer.from([...this.offsets.keys()].join(""), "hex"),
      offsets: [...this.offsets.values()],
      lengths: this.#parts.map((part) => part.length),
    };
    return { digest, bytes, declaration: { sha256: Buffer.from(digest, "hex"), size: bytes.length, pack } };
  }
}

export interface ManifestColumns {
  blocks: Buffer;
  lengths: number[];
  objects: Buffer;
  objectIndex: number[];
  offsets: number[];
}

/** The manifest of the blocks in their order, in its shortest form. */
export function manifestOf(refs: readonly BlockRef[]): ManifestColumns {
  const blocks = Buffer.from(refs.map((ref) => ref.digest).join(""), "hex");
  const lengths = refs.map((ref) => ref.length);
  if (refs.every((ref) => ref.object === ref.digest && ref.offset === 0)) {
    return { blocks, lengths, objects: Buffer.alloc(0), objectIndex: [], offsets: [] };
  }
  const index = new Map<string, number>();
  const objectIndex = refs.map((ref) => {
    if (!index.has(ref.object)) index.set(ref.object, index.size);
    return index.get(ref.object)!;
  });
  return { blocks, lengths, objects: Buffer.from([...index.keys()].join(""), "hex"), objectIndex, offsets: refs.map((ref) => ref.offset) };
}

/** Why these columns are no manifest of so many bytes; null if they are one. */
export function manifestProblem(manifest: Manifest__Output | ManifestColumns, size: number): string | null {
  const { blocks, lengths, objects, objectIndex, offsets } = manifest;
  const places = objects.length ? lengths.length : 0;
  if (blocks.length !== 32 * lengths.length || objects.length % 32 || objectIndex.length !== places || offsets.length !== places) {
    return "its columns do not fit together";
  }
  if (objectIndex.some((index) => index >= objects.length / 32)) return "it names an object that it does not have";
  if (lengths.some((length, i) => length < 1 || length + (offsets[i] ?? 0) > MAX_OBJECT_BYTES)) return "a block lies in no object";
  return lengths.reduce((sum, length) => sum + length, 0) === size ? null : "its blocks do not add up to the size of the file";
}

/** The blocks of a manifest. */
export function refsOf(manifest: Manifest__Output | ManifestColumns): BlockRef[] {
  const at = (packed: Uint8Array, i: number) => Buffer.from(packed.subarray(32 * i, 32 * i + 32)).toString("hex");
  return manifest.lengths.map((length, i) => {
    const digest = at(manifest.blocks, i);
    if (!manifest.objects.length) return { digest, length, object: digest, offset: 0 };
    return { digest, length, object: at(manifest.objects, manifest.objectIndex[i]!), offset: manifest.offsets[i]! };
  });
}

const root = new protobuf.Root();
root.resolvePath = (_origin, target) => `${PROTOS}/${target}`;
const Manifest = root.loadSync("syncline/metadata/v1/journal.proto").lookupType("syncline.metadata.v1.Manifest");

/** The manifest as an object of its own, which a content of very many blocks needs. */
export function serialized(manifest: ManifestColumns): Stored {
  // Empty fields are left out, as in proto3; protobufjs writes every field that is set, even an empty one.
  const filled = Object.entries(manifest).filter(([, column]) => column.length > 0);
  const bytes = Buffer.from(Manifest.encode(Manifest.create(Object.fromEntries(filled))).finish());
  const digest = sha256(bytes);
  return { digest, bytes, declaration: { sha256: Buffer.from(digest, "hex"), size: bytes.length, manifest: {} } };
}

export function deserialized(bytes: Uint8Array): ManifestColumns {
  return Manifest.toObject(Manifest.decode(bytes), { defaults: true, arrays: true, bytes: Buffer }) as ManifestColumns;
}
