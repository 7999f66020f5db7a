-- What the folder looked like when it and the space agreed in everything: one row, or none.
CREATE TABLE settled (fingerprint BLOB NOT NULL, skipped INTEGER NOT NULL);
