-- A job that has crashed too often while other processes died waits a moment for its verdict.

ALTER TABLE suspects ADD COLUMN is_held INTEGER NOT NULL DEFAULT 0 CHECK (is_held IN (0, 1));

DROP INDEX suspects_apart;
CREATE INDEX suspects_apart ON suspects (death) WHERE is_apart = 1 AND is_held = 0;
CREATE INDEX suspects_held ON suspects (job) WHERE is_held = 1;
