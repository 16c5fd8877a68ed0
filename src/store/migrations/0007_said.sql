-- Which delivery the words became, so that it can be asked whether they are out. NULL: said by an earlier version.
ALTER TABLE said ADD COLUMN number INTEGER;
