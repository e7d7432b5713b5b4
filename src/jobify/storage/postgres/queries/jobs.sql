-- Jobs: insert, replace, cancel, expire, retry, pause, delete, purge, trim.

-- name: insert
-- In the order of the arrays, which is the order of insertion.
INSERT INTO @jobs (
    id, task, queue, priority, status, ready, due_at, created_at, payload, rule, offset_at, options, origin, owner, fence,
    attempt, started_at, unique_key, expires_at
)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::boolean[], $7::bigint[], $8::bigint[], $9::bytea[],
    $10::text[], $11::bigint[], $12::text[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
    $18::text[], $19::bigint[]
)
ON CONFLICT DO NOTHING
RETURNING id

-- name: insert_claimed
-- As insert. Jobs for an owner that others have removed or are removing wait, as if they had never been claimed; see
-- claims.sql.
WITH
v AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::boolean[], $7::bigint[], $8::bigint[],
        $9::bytea[], $10::text[], $11::bigint[], $12::text[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::bigint[], $18::text[], $19::bigint[]
    ) WITH ORDINALITY AS v (
        id, task, queue, priority, status, ready, due_at, created_at, payload, rule, offset_at, options, origin, owner,
        fence, attempt, started_at, unique_key, expires_at, place
    )
),
claimants AS MATERIALIZED (SELECT id FROM @owners WHERE id = ANY ($14::bigint[]) FOR KEY SHARE SKIP LOCKED)
INSERT INTO @jobs (
    id, task, queue, priority, ready, due_at, created_at, payload, rule, offset_at, options, origin, unique_key,
    expires_at, status, owner, fence, attempt, started_at
)
SELECT
    v.id, v.task, v.queue, v.priority, v.ready, v.due_at, v.created_at, v.payload, v.rule, v.offset_at, v.options,
    v.origin, v.unique_key, v.expires_at, given.*
FROM v CROSS JOIN LATERAL (
    SELECT v.status, v.owner, v.fence, v.attempt, v.started_at
    WHERE v.owner IS NULL OR v.owner IN (SELECT id FROM claimants)
    UNION ALL
    SELECT 'scheduled', NULL, 0, 0, NULL WHERE v.owner NOT IN (SELECT id FROM claimants)
) AS given
ORDER BY v.place
ON CONFLICT DO NOTHING
RETURNING id

-- name: insert_plain
-- Jobs that are due, with nothing but their arguments.
INSERT INTO @jobs (id, task, queue, priority, due_at, created_at, payload, status, ready, fence, attempt)
SELECT *, 'scheduled', true, 0, 0 FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]
)
ON CONFLICT DO NOTHING
RETURNING id

-- name: insert_new
-- The same, of which none has a conflict.
INSERT INTO @jobs (id, task, queue, priority, due_at, created_at, payload, status, ready, fence, attempt)
SELECT *, 'scheduled', true, 0, 0 FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]
)

-- name: insert_alike
-- The same, where only the ids and the arguments differ.
INSERT INTO @jobs (id, task, queue, priority, due_at, created_at, payload, status, ready, fence, attempt)
SELECT id, $2::text, $3::text, $4::bigint, $5::bigint, $6::bigint, payload, 'scheduled', true, 0, 0
FROM unnest($1::text[], $7::bytea[]) AS v (id, payload)

-- name: undo_insert
-- What this transaction has just added.
DELETE FROM @jobs WHERE id = ANY ($1::text[])

-- name: unfinished
-- Of these ids, those that are taken: an ended job makes room.
SELECT id FROM @jobs
WHERE id = ANY ($1::text[]) AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: keys_taken
-- Of these unique keys, those that a job has which has not ended.
SELECT unique_key FROM @jobs
WHERE unique_key = ANY ($1::text[]) AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: delete_ended
DELETE FROM @jobs
WHERE id = ANY ($1::text[]) AND status IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: replace
-- Nothing happens if the job is running: then the row count is 0. A schedule that waits stays paused if it is, under any
-- rule.
INSERT INTO @jobs (
    id, task, queue, priority, ready, due_at, offset_at, created_at, origin, run_count, failure_count, expires_at, rule,
    options, payload, unique_key, status, fence, attempt
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 'scheduled', 0, 0)
ON CONFLICT (id) DO UPDATE SET
    status = 'scheduled', fence = jobs.fence + 1, attempt = 0, crashes = 0, owner = NULL,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, error = NULL, is_dead = false,
    progress = NULL, unique_key = excluded.unique_key, expires_at = excluded.expires_at, is_kept = false, cause = NULL,
    blockers = (jobs.is_paused AND jobs.status = 'scheduled' AND excluded.rule IS NOT NULL)::integer,
    is_parked = false, parked = NULL,
    is_paused = jobs.is_paused AND jobs.status = 'scheduled' AND excluded.rule IS NOT NULL,
    task = excluded.task, queue = excluded.queue, priority = excluded.priority, ready = excluded.ready,
    due_at = excluded.due_at, offset_at = excluded.offset_at, created_at = excluded.created_at,
    origin = excluded.origin, run_count = excluded.run_count, failure_count = excluded.failure_count,
    rule = excluded.rule, options = excluded.options, payload = excluded.payload
WHERE jobs.status <> 'running'

-- name: drop_successor
DELETE FROM @successors WHERE id = $1

-- name: successor
INSERT INTO @successors (
    id, task, queue, priority, ready, due_at, offset_at, created_at, origin, run_count, failure_count, expires_at, rule,
    options, payload, unique_key
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: mark_successor
UPDATE @jobs SET has_successor = true WHERE id = $1 AND status || '' = 'running'

-- name: reschedule
-- With the fence goes its place at a gate: it may meet another one at its new time.
UPDATE @jobs SET due_at = $1, ready = $2::bigint <= $3::bigint, fence = fence + 1,
    blockers = blockers - EXISTS (
        SELECT 1 FROM @limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence
    )::integer
WHERE id = $4 AND status = 'scheduled'

-- name: delete
DELETE FROM @jobs WHERE id = ANY ($1::text[]) AND status <> 'running'

-- name: retry
-- One at a time: the first of two with one key takes it.
UPDATE @jobs SET
    status = 'scheduled', ready = true, due_at = $1, fence = fence + 1, attempt = 0, crashes = 0, failure_count = 0,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, error = NULL, is_dead = false,
    progress = NULL, expires_at = NULL, is_kept = false, blockers = 0, is_paused = false, parked = NULL
WHERE id = $2 AND status IN ('failed', 'timeout', 'permanently_failed') AND NOT EXISTS (
    SELECT 1 FROM @jobs AS other
    WHERE other.unique_key = jobs.unique_key AND other.unique_key IS NOT NULL
        AND other.status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')
)

-- name: unpark
UPDATE @jobs SET
    is_parked = false, parked = NULL, blockers = blockers - 1, ready = true, due_at = $1, fence = fence + 1, error = NULL
WHERE id = $2 AND is_parked

-- name: purgeable
-- The first jobs that may be deleted; with those that must stay for another one's sake comes one that wants them.
WITH
purgeable AS MATERIALIZED (
    SELECT seq, id, status, delete_at FROM @jobs
    WHERE delete_at IS NOT NULL AND NOT is_kept AND delete_at <= $1 ORDER BY delete_at, seq LIMIT $2
),
behind AS MATERIALIZED (
    SELECT barrier, (
        SELECT child.seq FROM @dependencies JOIN @jobs AS child ON child.seq = dependencies.child
        WHERE dependencies.parent = barrier AND {needing}
        LIMIT 1
    ) AS blocking_child
    FROM (
        SELECT DISTINCT dependencies.child AS barrier
        FROM purgeable JOIN @dependencies ON dependencies.parent = purgeable.seq
        WHERE dependencies.child < 0
    ) AS barriers
)
SELECT seq, id, CASE WHEN status IN ('success', 'cancelled') THEN coalesce(
    (
        SELECT child.seq FROM @dependencies JOIN @jobs AS child ON child.seq = dependencies.child
        WHERE dependencies.parent = purgeable.seq AND {needing}
        LIMIT 1
    ),
    (
        SELECT behind.blocking_child FROM @dependencies JOIN behind ON behind.barrier = dependencies.child
        WHERE dependencies.parent = purgeable.seq AND dependencies.child < 0 AND behind.blocking_child IS NOT NULL
        LIMIT 1
    )
) END
FROM purgeable ORDER BY delete_at, seq

-- name: keep_for_child
UPDATE @jobs SET is_kept = true WHERE id = ANY ($1::text[])

-- name: mark_children_of_kept
UPDATE @jobs SET has_kept = true WHERE seq = ANY ($1::bigint[]) AND NOT has_kept

-- name: mark_causes_of_kept
-- What the children were cancelled for: the end of that ends their need, too.
UPDATE @jobs SET has_kept = true WHERE NOT has_kept AND seq IN (
    SELECT child.cause FROM @jobs AS child WHERE child.seq = ANY ($1::bigint[]) AND child.cause IS NOT NULL
)

-- name: purge
DELETE FROM @jobs WHERE seq = ANY ($2::bigint[]) AND delete_at <= $1 AND NOT is_kept

-- name: trim
-- The first parameter is how many lines a schedule keeps.
DELETE FROM @attempts WHERE seq IN (
    SELECT attempts.seq FROM @jobs
    JOIN @attempts ON attempts.job_id = jobs.id AND attempts.seq <= (
        SELECT kept.seq FROM @attempts AS kept WHERE kept.job_id = jobs.id ORDER BY kept.seq DESC LIMIT 1 OFFSET $1
    )
    WHERE jobs.rule IS NOT NULL
    ORDER BY jobs.id, attempts.seq
    LIMIT $2
)

-- name: trim_messages
-- The numbers of a job's messages have no gaps, so what is too old is known by its number. The newest message always
-- stays: the next one is numbered after it, and a reader that goes on from a number must not see that number again.
DELETE FROM @messages WHERE (job_id, number) IN (
    SELECT messages.job_id, messages.number FROM @jobs
    JOIN @messages ON messages.job_id = jobs.id AND messages.number <= (
        SELECT max(number) FROM @messages AS kept WHERE kept.job_id = jobs.id
    ) - greatest($1::bigint, 1)
    WHERE jobs.rule IS NOT NULL
    ORDER BY jobs.id, messages.number
    LIMIT $2
)

-- name: add_history
-- Without its job a line would never be deleted.
INSERT INTO @attempts (job_id, attempt, due_at, outcome, error, traceback, started_at, finished_at, owner, code)
SELECT line.* FROM unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::text[]
) AS line (job_id, attempt, due_at, outcome, error, traceback, started_at, finished_at, owner, code)
WHERE EXISTS (SELECT 1 FROM @jobs WHERE jobs.id = line.job_id)


-- Cancels

-- name: statuses
SELECT id, status FROM @jobs WHERE id = ANY ($1::text[]) ORDER BY seq FOR NO KEY UPDATE

-- name: cancel_waiting
UPDATE @jobs SET
    status = 'cancelled', error = $1, finished_at = $2, delete_at = $3, result = NULL, blockers = 0,
    is_paused = false, is_parked = false
WHERE id = ANY ($4::text[]) AND status = 'scheduled'

-- name: request_cancel
INSERT INTO @cancels (id, reason, requested_at, delete_at)
SELECT id, $1, $2::bigint, $3::bigint FROM @jobs WHERE id = ANY ($4::text[]) AND status || '' = 'running'
ON CONFLICT (id) DO UPDATE SET
    reason = excluded.reason, requested_at = excluded.requested_at, delete_at = excluded.delete_at

-- name: mark_cancel
UPDATE @jobs SET has_cancel = true, has_successor = false WHERE id = ANY ($1::text[]) AND status || '' = 'running'

-- name: cancel_requests
SELECT id FROM @jobs WHERE has_cancel AND owner = $1 AND status = 'running'

-- name: expired
SELECT id, task, origin, queue, attempt FROM @jobs
WHERE expires_at IS NOT NULL AND status = 'scheduled' AND expires_at <= $1 ORDER BY expires_at, seq LIMIT $2
FOR NO KEY UPDATE


-- Pauses

-- name: pausable
SELECT id FROM @jobs
WHERE id = ANY ($1::text[]) AND rule IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')
ORDER BY seq FOR NO KEY UPDATE

-- name: pause
UPDATE @jobs SET is_paused = true, blockers = blockers + 1 WHERE id = ANY ($1::text[]) AND NOT is_paused

-- name: clear_blockers
UPDATE @jobs SET is_paused = false, blockers = 0
WHERE id = ANY ($1::text[]) AND blockers > 0
    AND status IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: paused
SELECT id FROM @jobs
WHERE id = ANY ($1::text[]) AND is_paused
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')
ORDER BY seq FOR NO KEY UPDATE

-- name: resume
UPDATE @jobs SET is_paused = false, blockers = blockers - 1, ready = ready OR due_at <= $1
WHERE id = ANY ($2::text[]) AND is_paused

-- name: pause_queue
INSERT INTO @paused_queues (name) VALUES ($1) ON CONFLICT DO NOTHING

-- name: resume_queue
DELETE FROM @paused_queues WHERE name = $1

-- name: paused_queues
SELECT name FROM @paused_queues ORDER BY name
