-- How often something was committed, with a tag that only this journal can make. A file beside this one says the same and
-- is never ahead of it, so an older copy of this file is told by that.
ALTER TABLE total ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE total ADD COLUMN tag BLOB;
