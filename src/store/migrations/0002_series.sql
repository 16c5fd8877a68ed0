-- Replay values of messages that are numbered in a series, such as those of a Megolm session. A series' numbers lie
-- together, so that remembering one for ever writes a page that its neighbours share. `once` keeps values that stand
-- alone, and those that were remembered before.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE
) STRICT;
CREATE TABLE numbered (
    series INTEGER NOT NULL,
    place INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (series, place)
) STRICT, WITHOUT ROWID;
