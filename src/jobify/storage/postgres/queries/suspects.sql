-- Suspects, deaths, and the jobs of owners that are gone. A job that is to run apart has one blocker that is neither a
-- parent nor a pause. It keeps it while it runs, so that it still has it if it is released. For claimant see claims.sql.

-- name: next_apart
-- The death whose suspects are next, and how many it had.
SELECT suspects.death, suspects.company FROM @suspects
JOIN @jobs ON jobs.seq = suspects.job
WHERE suspects.is_apart AND NOT suspects.is_held AND jobs.status = 'scheduled' AND jobs.blockers = 1
    AND NOT jobs.is_paused AND NOT jobs.is_parked AND (jobs.ready OR jobs.due_at <= $1) AND jobs.task = ANY ($2::text[])
    AND ($3::text[] IS NULL OR jobs.queue = ANY ($3::text[])) AND jobs.queue NOT IN (SELECT name FROM @paused_queues)
ORDER BY suspects.death LIMIT 1

-- name: take_apart
-- Those of its suspects that may run, of one lane. Parameters: the death, now, tasks, queues, owner, limit.
WITH
claimant AS MATERIALIZED (SELECT id FROM @owners WHERE id = $5 FOR KEY SHARE SKIP LOCKED),
picked AS MATERIALIZED (
    SELECT jobs.seq FROM @suspects
    JOIN @jobs ON jobs.seq = suspects.job
    WHERE suspects.is_apart AND NOT suspects.is_held AND suspects.death = $1 AND jobs.status = 'scheduled'
        AND jobs.blockers = 1 AND NOT jobs.is_paused AND NOT jobs.is_parked AND (jobs.ready OR jobs.due_at <= $2)
        AND jobs.task = ANY ($3::text[]) AND ($4::text[] IS NULL OR jobs.queue = ANY ($4::text[]))
        AND jobs.queue NOT IN (SELECT name FROM @paused_queues)
        AND EXISTS (SELECT 1 FROM claimant)
    ORDER BY suspects.death, suspects.job LIMIT $6 FOR NO KEY UPDATE OF jobs
),
taken AS (
    UPDATE @jobs SET
        status = 'running', ready = true, owner = $5, started_at = $2, fence = fence + 1, attempt = attempt + 1,
        unique_key = CASE
            WHEN unique_key LIKE 'start:%' AND NOT EXISTS (SELECT 1 FROM @task_limits AS its WHERE its.task = jobs.task)
            THEN NULL ELSE unique_key
        END
    FROM picked WHERE jobs.seq = picked.seq
    RETURNING {claim}
)
SELECT * FROM taken ORDER BY seq

-- name: take_parked
-- Those of one lane that wait for nothing else, and that were not tried by the code of the first parameter.
-- Parameters: the code, now, tasks, queues, owner, limit.
WITH
claimant AS MATERIALIZED (SELECT id FROM @owners WHERE id = $5 FOR KEY SHARE SKIP LOCKED),
picked AS MATERIALIZED (
    SELECT seq FROM @jobs WHERE is_parked AND blockers = 1 AND status = 'scheduled'
        AND NOT coalesce(@json_of(parked) -> 'codes' ? $1::text, false)
        AND (ready OR due_at <= $2) AND jobs.task = ANY ($3::text[])
        AND ($4::text[] IS NULL OR jobs.queue = ANY ($4::text[])) AND queue NOT IN (SELECT name FROM @paused_queues)
        AND EXISTS (SELECT 1 FROM claimant)
    ORDER BY priority DESC, due_at, seq LIMIT $6 FOR NO KEY UPDATE SKIP LOCKED
),
taken AS (
    UPDATE @jobs SET
        status = 'running', ready = true, owner = $5, started_at = $2, fence = fence + 1, attempt = attempt + 1,
        is_parked = false, blockers = blockers - 1,
        unique_key = CASE
            WHEN unique_key LIKE 'start:%' AND NOT EXISTS (SELECT 1 FROM @task_limits AS its WHERE its.task = jobs.task)
            THEN NULL ELSE unique_key
        END
    FROM picked WHERE jobs.seq = picked.seq
    RETURNING {claim}
)
SELECT * FROM taken ORDER BY priority DESC, due_at, seq

-- name: parked_before
-- What is known of the code that these jobs did not fit.
SELECT id, parked FROM @jobs WHERE id = ANY ($1::text[]) AND parked IS NOT NULL

-- name: park
UPDATE @jobs SET is_parked = true, parked = $1, blockers = blockers + 1
WHERE id = $2 AND status = 'scheduled' AND NOT is_parked

-- name: add_suspects
INSERT INTO @suspects (job, attempt, deaths, seen, death, company, is_apart, is_held)
SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[], $8::boolean[]
)
ON CONFLICT (job) DO UPDATE SET
    attempt = excluded.attempt, deaths = excluded.deaths, seen = excluded.seen, death = excluded.death,
    company = excluded.company, is_apart = excluded.is_apart, is_held = excluded.is_held

-- name: set_apart
UPDATE @jobs SET blockers = blockers + 1 WHERE seq = ANY ($1::bigint[]) AND status || '' = 'running'

-- name: acquit
-- These have come to the end of an attempt that they ran apart.
UPDATE @jobs SET blockers = blockers - 1
WHERE id = ANY ($1::text[]) AND status = 'scheduled' AND blockers > is_paused::integer

-- name: forget_suspects
DELETE FROM @suspects WHERE job IN (SELECT seq FROM @jobs WHERE id = ANY ($1::text[]))

-- name: delete_orphaned_suspects
DELETE FROM @suspects
WHERE NOT EXISTS (SELECT 1 FROM @jobs WHERE jobs.seq = suspects.job AND jobs.status IN ('scheduled', 'running'))

-- name: add_death
INSERT INTO @deaths (at, host, pid, held, begun, is_trial) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id

-- name: unexplained
-- Deaths at about this time that no trial explains, and when they were.
SELECT id, at FROM @deaths WHERE NOT is_trial AND at BETWEEN $1 AND $2

-- name: held_suspects
-- Jobs that wait for their verdict, with the time of the death and all that the job was a suspect of. A death that is
-- long forgotten has no time.
SELECT jobs.seq, jobs.id, jobs.task, jobs.origin, jobs.crashes, deaths.at, suspects.seen::json
FROM @suspects
JOIN @jobs ON jobs.seq = suspects.job
LEFT JOIN @deaths ON deaths.id = suspects.death
WHERE suspects.is_held AND jobs.status = 'scheduled' AND jobs.attempt = suspects.attempt
    AND jobs.blockers > jobs.is_paused::integer + jobs.is_parked::integer

-- name: try_again
-- The last crash of these proved nothing.
UPDATE @suspects SET is_held = false WHERE job = ANY ($1::bigint[])

-- name: uncount_crash
UPDATE @jobs SET crashes = crashes - 1 WHERE seq = ANY ($1::bigint[]) AND crashes > 0

-- name: delete_old_deaths
-- The newest thousand stay.
DELETE FROM @deaths WHERE id <= $1 - 1000

-- name: held_by_owners
-- What these owners hold, with what is known of it as a suspect.
SELECT
    jobs.seq, jobs.id, jobs.task, jobs.origin, jobs.owner, jobs.attempt, jobs.crashes, jobs.has_successor,
    jobs.has_cancel, jobs.blockers > jobs.is_paused::integer,
    suspects.attempt, suspects.deaths, suspects.seen::json, suspects.company, suspects.is_apart, suspects.is_held
FROM @jobs LEFT JOIN @suspects ON suspects.job = jobs.seq
WHERE jobs.status = 'running' AND jobs.owner = ANY ($1::bigint[])
ORDER BY jobs.seq FOR NO KEY UPDATE OF jobs

-- name: record_lost
INSERT INTO @attempts (job_id, attempt, due_at, outcome, error, started_at, finished_at, owner)
SELECT id, attempt, due_at, 'lost', $1, started_at, $2::bigint, owner FROM @jobs WHERE seq = ANY ($3::bigint[]) ORDER BY seq

-- name: record_released
INSERT INTO @attempts (job_id, attempt, due_at, outcome, started_at, finished_at, owner)
SELECT id, attempt, due_at, 'released', started_at, $1::bigint, owner FROM @jobs
WHERE status = 'running' AND owner = ANY ($2::bigint[])

-- name: uncount_attempt
UPDATE @jobs SET attempt = attempt - 1 WHERE status = 'running' AND owner = ANY ($1::bigint[]) AND attempt > 0

-- name: count_crash
UPDATE @jobs SET crashes = crashes + 1 WHERE seq = ANY ($1::bigint[])

-- name: uncount_unbegun
-- These were claimed and had not begun.
UPDATE @jobs SET attempt = attempt - 1 WHERE seq = ANY ($1::bigint[])

-- name: quarantine
UPDATE @jobs SET
    status = 'failed', owner = NULL, error = $1, finished_at = $2, delete_at = CASE WHEN rule IS NULL THEN $3::bigint END,
    result = NULL, is_dead = true, blockers = 0, is_paused = false
WHERE id = $4

-- name: release
UPDATE @jobs SET status = 'scheduled', ready = true, owner = NULL
WHERE status = 'running' AND owner = ANY ($1::bigint[])
