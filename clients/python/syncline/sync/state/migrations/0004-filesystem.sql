-- Which filesystem was mounted at a directory, instead of whether another than the folder's was: '?' is not known.
ALTER TABLE base RENAME TO base_before;
CREATE TABLE base (
    id BLOB PRIMARY KEY, parent BLOB NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, version INTEGER NOT NULL,
    digest BLOB, executable INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, local_name TEXT, trusted INTEGER NOT NULL,
    filesystem TEXT NOT NULL, manifest BLOB) WITHOUT ROWID;
INSERT INTO base SELECT
    id, parent, name, kind, version, digest, executable, size, mtime_ns, ctime_ns, inode, local_name, trusted,
    CASE WHEN mounted AND NOT EXISTS (SELECT 1 FROM base_before above WHERE above.id = one.parent AND above.mounted)
        THEN '?' ELSE '' END,
    manifest FROM base_before one;
DROP TABLE base_before;
DELETE FROM settled;
