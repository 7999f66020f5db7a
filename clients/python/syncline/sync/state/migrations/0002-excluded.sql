-- What this device leaves out of its folder. `node` is what the space had at `path` when that was known.
CREATE TABLE excluded (path TEXT PRIMARY KEY, node BLOB) WITHOUT ROWID;
