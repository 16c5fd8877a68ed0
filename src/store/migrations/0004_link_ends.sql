-- What a link joins, a second time: should its row not open, its conversations are still known and can be held.
CREATE TABLE link_end (
    link INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    since INTEGER NOT NULL,
    tag BLOB NOT NULL,
    PRIMARY KEY (link, conversation)
) STRICT, WITHOUT ROWID;
