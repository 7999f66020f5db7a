-- The space's mirror, the base, where blocks are, and the commit in flight.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remote (
    id BLOB PRIMARY KEY, parent BLOB NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, version INTEGER NOT NULL,
    digest BLOB, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, executable INTEGER NOT NULL, target TEXT NOT NULL,
    manifest BLOB NOT NULL, manifest_object BLOB NOT NULL, seq INTEGER NOT NULL, deleted_at_ms INTEGER NOT NULL,
    user TEXT NOT NULL, device TEXT NOT NULL, committed_at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS base (
    id BLOB PRIMARY KEY, parent BLOB NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, version INTEGER NOT NULL,
    digest BLOB, executable INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, local_name TEXT, trusted INTEGER NOT NULL,
    mounted INTEGER NOT NULL, manifest BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS block (
    digest BLOB PRIMARY KEY, object BLOB NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS in_flight (request_id BLOB PRIMARY KEY, mutations BLOB NOT NULL, evidence TEXT NOT NULL);
