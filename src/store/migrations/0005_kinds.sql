-- Messages about messages, and files.

-- Who wrote it: a tag that only this journal can make, to tell an author's own edit from a stranger's.
ALTER TABLE received ADD COLUMN author BLOB;
-- Eight bytes of a digest of what it is about and how. NULL once its content is erased.
ALTER TABLE received ADD COLUMN about INTEGER;
-- Its files in the spool. NULL once its content is erased, and then the spool lets them go.
ALTER TABLE received ADD COLUMN spool TEXT;
CREATE INDEX received_about ON received (about) WHERE about IS NOT NULL;
CREATE INDEX received_spool ON received (id) WHERE spool IS NOT NULL;
