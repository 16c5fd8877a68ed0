-- When an entry was written last, so that what a transport only remembers for a while has an end. NULL: by an earlier
-- version.
ALTER TABLE entry ADD COLUMN at INTEGER;
