-- What is kept for somebody to act on has a bound for each sender and an end in time.
-- `sender_key` is eight bytes of a keyed digest, as long as the content is there; `pinned` is the same once a delivery
-- of it is a dead letter, and then it counts.
ALTER TABLE received ADD COLUMN sender_key INTEGER;
ALTER TABLE received ADD COLUMN pinned INTEGER;
CREATE TABLE pinned (
    sender INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX delivery_died ON delivery (done_at) WHERE state = 2;
CREATE INDEX unreadable_died ON unreadable (dead_at) WHERE state = 1;
CREATE INDEX letter_since ON letter (since);
