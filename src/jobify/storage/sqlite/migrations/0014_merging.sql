-- Calls that give way to an earlier job, or change it.

-- A replacement may keep the unique key of the job that it follows.
ALTER TABLE successors ADD COLUMN unique_key TEXT;

-- Of each key of a debounced task, the job that its last calls were merged into.
CREATE TABLE merge_windows (
    key TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    closes_at INTEGER NOT NULL,
    is_trailing INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX merge_windows_closing ON merge_windows (closes_at);
