-- A job whose stored call does not fit the code that has claimed it waits for code that it fits.

ALTER TABLE jobs ADD COLUMN is_parked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN parked TEXT;
CREATE INDEX jobs_parked ON jobs (task) WHERE is_parked = 1;
