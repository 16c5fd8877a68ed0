-- What was said to the bridge itself, and by whom. `content` is locked, and NULL once it is done with; the line stays as
-- long as those of messages, so that the same words are never taken twice.
-- state: 0 waits, 1 begun, 2 done.
CREATE TABLE command (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL,
    remote TEXT NOT NULL,
    state INTEGER NOT NULL,
    since INTEGER NOT NULL,
    content BLOB,
    UNIQUE (conversation, remote)
) STRICT;
CREATE INDEX command_open ON command (conversation, number) WHERE state < 2;
CREATE INDEX command_done ON command (since) WHERE state = 2;
