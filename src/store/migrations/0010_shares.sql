-- What is kept of a conversation of a bounded account, whose programs share the journal with everybody else.
CREATE TABLE share (
    conversation INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL
) STRICT;
-- How many bytes of files a message counts there, beside its own. NULL: it does not count there, or not any more.
ALTER TABLE received ADD COLUMN shared INTEGER;
