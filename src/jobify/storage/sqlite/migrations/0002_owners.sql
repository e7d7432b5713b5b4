-- What tells whether an owner lives when its lock file is gone, and whether it has left without a crash.

ALTER TABLE owners ADD COLUMN process TEXT;
ALTER TABLE owners ADD COLUMN is_leaving INTEGER NOT NULL DEFAULT 0;
