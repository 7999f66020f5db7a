// @ts-check
/** The meaning of each verdict that refuses a change: a copy of `Verdict.text` (lib/syncline/model/verdicts.py) with
 * "folder" for "directory". tests/gateway/test_words.py compares both. */

/** By the name of the verdict. @type {Record<string, string>} */
export const VERDICTS = {
  NODE_NOT_FOUND: "there is no such file or folder any more",
  NODE_DELETED: "the file or folder is in the trash",
  WRONG_KIND: "the space has something of another kind in this place",
  PARENT_NOT_FOUND: "the folder to put it into is no longer there",
  NAME_TAKEN: "there is something of that name already",
  NAME_INVALID: "the space does not accept the name; a name has no '/' and at most 255 bytes",
  VERSION_CONFLICT: "the file has a newer version; look at that and decide again",
  MOVED: "the file or folder was moved or renamed meanwhile; look at it and decide again",
  CYCLE: "a folder cannot be put into itself",
  NOT_DELETED: "the file or folder is not in the trash",
  VERSION_NOT_FOUND: "the file has no such version",
  QUOTA_EXCEEDED: "the space is full, or its owner has no room left; ask an administrator for a larger quota",
  OBJECT_MISSING: "an object of the content was not uploaded",
  OBJECT_NOT_SEALED: "an object of the content was not sealed",
  BLOCK_OUT_OF_BOUNDS: "a block of the content reaches beyond its object",
  BLOCK_NOT_IN_PACK: "a block of the content is not one of its pack's",
  MANIFEST_INVALID: "the blocks of the content do not make up the file; update the client",
  PATH_TOO_LONG: "a path would have more than 128 names or 4,096 bytes; choose another place",
  NODES_EXCEEDED: "the space, with its trash, may hold no more files; ask whoever runs the system for more",
};
