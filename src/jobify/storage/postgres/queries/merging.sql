-- Calls that give way to an earlier job, or change it; see storage/merging.py.

-- name: lock_keys
-- In one order, so that two transactions do not wait for each other. Keys that share a lock only wait once in vain.
SELECT pg_advisory_xact_lock(lock) FROM (
    SELECT DISTINCT hashtextextended(key, 0) AS lock FROM unnest($1::text[]) AS v (key) ORDER BY lock
) AS locks

-- name: give_up_key
UPDATE @jobs SET unique_key = NULL WHERE id = $1

-- name: hold_unique
SELECT id FROM @jobs
WHERE unique_key = $1 AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')
FOR NO KEY UPDATE

-- name: window
SELECT job_id, first_at, closes_at, is_trailing FROM @merge_windows WHERE key = $1

-- name: set_window
INSERT INTO @merge_windows (key, job_id, first_at, closes_at, is_trailing) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (key) DO UPDATE SET
    job_id = excluded.job_id, first_at = excluded.first_at, closes_at = excluded.closes_at,
    is_trailing = excluded.is_trailing

-- name: is_window_closed
-- Whether there may be a window to forget.
SELECT EXISTS (SELECT 1 FROM @merge_windows WHERE closes_at <= $1)

-- name: forget_windows
DELETE FROM @merge_windows WHERE key IN (
    SELECT key FROM @merge_windows AS its WHERE closes_at <= $1 AND NOT EXISTS (
        SELECT 1 FROM @jobs WHERE jobs.id = its.job_id AND jobs.status = 'scheduled'
    ) LIMIT $2 FOR UPDATE SKIP LOCKED
)
