-- Contents that could not be had: which one of the node, why, the object by which (or that it contradicts itself), and
-- when it was last tried, after what pause it is tried again, in seconds.
CREATE TABLE unobtainable (
    node BLOB PRIMARY KEY, content BLOB NOT NULL, reason TEXT NOT NULL, object BLOB, tag TEXT NOT NULL,
    tried_at INTEGER NOT NULL, pause INTEGER NOT NULL) WITHOUT ROWID;
