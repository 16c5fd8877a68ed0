-- The journal's first form. What is locked is a BLOB; texts here are names that networks gave, times and reasons.
-- Numbers of deliveries, unreadables, letters and quarantined rows are drawn from one counter, so that a number says
-- by itself what is meant. They are never used again.

-- Tells another root key from a damaged file.
CREATE TABLE key_check (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    fingerprint BLOB NOT NULL,
    locked BLOB NOT NULL
) STRICT;

-- Written once in each commit that changes it, since counting a million rows takes too long.
CREATE TABLE total (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    payload_bytes INTEGER NOT NULL,
    settled INTEGER NOT NULL
) STRICT;
INSERT INTO total VALUES (1, 0, 0);

-- The tag binds the number to the name, so that a changed byte can't send one conversation's words to another.
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    tag BLOB NOT NULL,
    UNIQUE (account, name)
) STRICT;

-- `content` is NULL for a link that is declared in the config only, or that was removed; lines still name it.
CREATE TABLE link (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    content BLOB
) STRICT;

-- Everything that arrived, one line each. `id` is its place: within a conversation, order is the order of places.
-- state: 0 waits to be routed, 1 routed and still needed, 2 unreadable, 3 done: a content-free line.
CREATE TABLE received (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    era INTEGER NOT NULL,
    key INTEGER NOT NULL,
    remote TEXT NOT NULL,
    state INTEGER NOT NULL,
    at INTEGER NOT NULL,
    trust INTEGER NOT NULL,
    sender TEXT,
    note TEXT,
    payload BLOB
) STRICT;
-- `key` is eight bytes of a digest of the name. Names of one time lie together, so that a commit writes few pages.
CREATE INDEX received_key ON received (era, key);
CREATE INDEX received_waiting ON received (conversation, id) WHERE state = 0;
CREATE INDEX received_done ON received (at) WHERE state = 3;

-- One received message (`source`), or words of the bridge (`payload`), on its way to one conversation (`lane`).
-- state: 0 queued, 1 held, 2 dead, 3 settled, 4 echo, 5 quarantined, 6 dropped.
CREATE TABLE delivery (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL,
    lane INTEGER NOT NULL,
    source INTEGER,
    link INTEGER,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    enqueued_at INTEGER NOT NULL,
    done_at INTEGER,
    reason TEXT,
    settled_as TEXT,
    settled_key INTEGER,
    tag BLOB NOT NULL,
    payload BLOB
) STRICT;
CREATE INDEX delivery_lane ON delivery (lane, number) WHERE state = 0;
CREATE INDEX delivery_held ON delivery (link, number) WHERE state = 1;
CREATE INDEX delivery_dead ON delivery (number) WHERE state = 2;
CREATE INDEX delivery_open ON delivery (id) WHERE state < 3;
CREATE INDEX delivery_source ON delivery (source) WHERE source IS NOT NULL;
CREATE INDEX delivery_settled ON delivery (number >> 12, settled_key) WHERE settled_key IS NOT NULL;
CREATE INDEX delivery_words ON delivery (done_at) WHERE source IS NULL AND done_at IS NOT NULL;

-- state: 0 waits, 1 dead letter, 2 quarantined.
CREATE TABLE unreadable (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    received INTEGER NOT NULL UNIQUE,
    conversation INTEGER NOT NULL,
    sender TEXT NOT NULL,
    hint TEXT NOT NULL,
    reason TEXT NOT NULL,
    state INTEGER NOT NULL,
    since INTEGER NOT NULL,
    dead_at INTEGER,
    holding INTEGER NOT NULL,
    hold_until INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    filled INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;
CREATE INDEX unreadable_sender ON unreadable (conversation, sender) WHERE state = 0;
CREATE INDEX unreadable_hint ON unreadable (hint) WHERE state = 0;
CREATE INDEX unreadable_since ON unreadable (since) WHERE state = 0;
CREATE INDEX unreadable_holding ON unreadable (hold_until) WHERE holding = 1;
CREATE INDEX unreadable_dead ON unreadable (number) WHERE state = 1;

-- Open gaps only. A gap owns the places from `low` to `high`; `next_place` is where the next message read backwards goes.
CREATE TABLE gap (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    next_place INTEGER NOT NULL,
    content BLOB NOT NULL
) STRICT;
CREATE INDEX gap_conversation ON gap (conversation, low);

-- Replay values, for ever. `seen` says under which name, in eight bytes of a digest.
CREATE TABLE once (
    key BLOB PRIMARY KEY,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Topics that were said, for ever.
CREATE TABLE said (
    key BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The accounts' own stores; the service's settings under the empty account.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (account, key)
) STRICT;

-- Dead letters of what never became a delivery.
CREATE TABLE letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL,
    name TEXT NOT NULL,
    sender TEXT,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

-- Rows that do not open, by name.
CREATE TABLE quarantine (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    origin INTEGER,
    lane INTEGER,
    sender TEXT,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
