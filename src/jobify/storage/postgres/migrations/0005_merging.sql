-- Calls that give way to an earlier job, or change it.

-- A replacement may keep the unique key of the job that it follows.
ALTER TABLE @successors ADD COLUMN unique_key text COLLATE "C";

-- Of each key of a debounced task, the job that its last calls were merged into.
CREATE TABLE @merge_windows (
    key text COLLATE "C" PRIMARY KEY,
    job_id text COLLATE "C" NOT NULL,
    first_at bigint NOT NULL,
    closes_at bigint NOT NULL,
    is_trailing boolean NOT NULL
);

CREATE INDEX merge_windows_closing ON @merge_windows (closes_at);
