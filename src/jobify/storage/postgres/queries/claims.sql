-- Claims.
--
-- Claimants. A statement that gives jobs to an owner locks the owner's row (FOR KEY SHARE), and what removes an owner locks
-- it, too (FOR UPDATE), before it looks at what the owner holds. So a claim that is under way when its process dies either
-- finds the row removed, and takes nothing, or the removal sees its jobs: none runs for an owner that is not there, where
-- nothing would recover it. A claim skips a row that is locked, and so does a recovery, which comes again; only an owner
-- that leaves waits for a claim of its own. Heartbeats do not conflict with a claim.

-- name: claim_columns
jobs.id, jobs.task, jobs.queue, jobs.priority, jobs.due_at, jobs.created_at, jobs.payload, jobs.rule, jobs.offset_at,
jobs.options, jobs.origin, jobs.fence, jobs.attempt, jobs.run_count, jobs.failure_count, jobs.crashes, jobs.expires_at,
jobs.rule IS NOT NULL AND coalesce(jobs.error LIKE 'snoozed by its task%', false), jobs.seq

-- name: promote
-- Bring what has become due to where claims look.
UPDATE @jobs SET ready = true FROM (
    SELECT seq FROM @jobs WHERE status = 'scheduled' AND NOT ready AND blockers = 0 AND due_at <= $1
    ORDER BY due_at, seq LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
) AS due WHERE jobs.seq = due.seq

-- name: claim
-- The first jobs of one lane, which become those of an owner. lane: its queues and tasks that have ready jobs. first: the
-- first ready jobs of the lane, one more than wanted, without a lock. shares: how many of them are of which queue and
-- task. locked: so many of each that no other transaction has locked; of one pair they are the first ones, of several the
-- order is that of first unless another process takes some of them at the same time.
--
-- Nothing is taken for an owner that others have removed or are removing; see above. The owner's row is locked only if
-- there is something to take, so that a claim in vain writes nothing.
-- Nothing is taken if there is something to promote, so that what is due comes in its order; $6: take all the same.
-- Parameters: tasks, limit, owner, now, the latest due time, $6, the number of this call, and those of {lane}. The last
-- columns are the same in each row, and there is one row at least.
WITH RECURSIVE
{lane},
staged AS MATERIALIZED (
    SELECT due_at FROM @jobs WHERE status = 'scheduled' AND NOT ready AND blockers = 0 ORDER BY due_at, seq LIMIT 1
),
first AS MATERIALIZED (
    SELECT lane.queue, lane.task, lane.passed, lane.after_due_at, lane.after_seq, ahead.priority, ahead.due_at, ahead.seq
    FROM lane
    CROSS JOIN LATERAL (
        SELECT priority, due_at, seq FROM @jobs
        WHERE status = 'scheduled' AND ready AND blockers = 0 AND jobs.queue = lane.queue AND jobs.task = lane.task
            {further_than_lane}
        ORDER BY -priority, due_at, seq LIMIT $2 + 1
    ) AS ahead
    WHERE ($6 OR coalesce((SELECT due_at > $5 FROM staged), true)) AND EXISTS (SELECT 1 FROM @owners WHERE id = $3)
    ORDER BY ahead.priority DESC, ahead.due_at, ahead.seq LIMIT $2 + 1
),
shares AS (
    SELECT queue, task, passed, after_due_at, after_seq, count(*) AS number
    FROM (SELECT * FROM first ORDER BY priority DESC, due_at, seq LIMIT $2) AS wanted
    GROUP BY queue, task, passed, after_due_at, after_seq
),
claimant AS MATERIALIZED (
    SELECT id FROM @owners WHERE id = $3 AND EXISTS (SELECT 1 FROM first) FOR KEY SHARE SKIP LOCKED
),
locked AS MATERIALIZED (
    SELECT its.seq FROM shares CROSS JOIN LATERAL (
        SELECT seq FROM @jobs
        WHERE status = 'scheduled' AND ready AND blockers = 0 AND jobs.queue = shares.queue AND jobs.task = shares.task
            {further_than_shares}
        ORDER BY -priority, due_at, seq LIMIT shares.number FOR NO KEY UPDATE SKIP LOCKED
    ) AS its
    WHERE EXISTS (SELECT 1 FROM claimant)
),
taken AS (
    UPDATE @jobs SET
        status = 'running', owner = $3, fence = fence + 1, attempt = attempt + 1, claim = $7,
        unique_key = CASE
            WHEN unique_key LIKE 'start:%' AND NOT EXISTS (SELECT 1 FROM @task_limits AS its WHERE its.task = jobs.task)
            THEN NULL ELSE unique_key
        END,
        started_at = CASE WHEN due_at > $4 AND due_at <= $5 THEN due_at ELSE $4 END
    FROM locked WHERE jobs.seq = locked.seq
    RETURNING {claim}
)
SELECT taken.*, (SELECT count(*) FROM first), (SELECT due_at FROM staged), ({passed_over}) {unflushed}
FROM (SELECT) AS answer LEFT JOIN taken ON true

-- name: whole_lane
-- pairs: every queue and task that has a ready job, found by one jump of the index each, so that jobs which no task here
-- can run cost nothing.
pairs (queue, task) AS (
    (SELECT queue, task FROM @jobs WHERE status = 'scheduled' AND ready AND blockers = 0 ORDER BY queue, task LIMIT 1)
    UNION ALL
    SELECT later.queue, later.task FROM pairs CROSS JOIN LATERAL (
        SELECT jobs.queue, jobs.task FROM @jobs
        WHERE status = 'scheduled' AND ready AND blockers = 0 AND (jobs.queue, jobs.task) > (pairs.queue, pairs.task)
        ORDER BY jobs.queue, jobs.task LIMIT 1
    ) AS later
),
lane AS (
    SELECT queue, task, 0::bigint AS passed, 0::bigint AS after_due_at, 0::bigint AS after_seq FROM pairs
    WHERE task = ANY ($1::text[]) {in_queues} AND queue NOT IN (SELECT name FROM @paused_queues)
)

-- name: rest_of_lane
-- Known queues and tasks, each from a place in its order on. Parameters from $8 on: queues, tasks, and their places.
lane AS (
    SELECT * FROM unnest($8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[])
        AS known (queue, task, passed, after_due_at, after_seq)
    WHERE task = ANY ($1::text[]) AND queue NOT IN (SELECT name FROM @paused_queues)
)

-- name: batch_candidates
-- What makes batches of the first jobs of one lane, without a lock. Parameters: tasks, how many jobs, whether their keys
-- are wanted (in the options), and the queues of {lane}. The last columns are the same in each row, and there is one row
-- at least.
WITH RECURSIVE
{lane},
first AS (
    SELECT ahead.seq, -ahead.priority AS rank, ahead.due_at, ahead.created_at,
        CASE WHEN $3::boolean THEN ahead.options END AS options, ahead.fence
    FROM lane
    CROSS JOIN LATERAL (
        SELECT seq, priority, due_at, created_at, options, fence FROM @jobs
        WHERE status = 'scheduled' AND ready AND blockers = 0 AND jobs.queue = lane.queue AND jobs.task = lane.task
        ORDER BY -priority, due_at, seq LIMIT $2
    ) AS ahead
    ORDER BY -ahead.priority, ahead.due_at, ahead.seq LIMIT $2
)
SELECT first.*, (
    SELECT due_at FROM @jobs WHERE status = 'scheduled' AND NOT ready AND blockers = 0 ORDER BY due_at, seq LIMIT 1
), ({passed_over})
FROM (SELECT) AS answer LEFT JOIN first ON true ORDER BY first.rank, first.due_at, first.seq

-- name: take_batch
-- Claim these jobs, all of them or none. The last column: those that no other transaction has locked or changed.
-- Parameters: their numbers and fences, the owner, now, the latest due time, the number of this call.
WITH claimant AS MATERIALIZED (
    SELECT id FROM @owners WHERE id = $3 FOR KEY SHARE SKIP LOCKED
),
locked AS MATERIALIZED (
    SELECT its.seq FROM unnest($1::bigint[], $2::bigint[]) AS v (seq, fence)
    CROSS JOIN LATERAL (
        SELECT jobs.seq, jobs.fence, jobs.status, jobs.ready, jobs.blockers FROM @jobs WHERE jobs.seq = v.seq
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS its
    WHERE its.fence = v.fence AND its.status = 'scheduled' AND its.ready AND its.blockers = 0
        AND EXISTS (SELECT 1 FROM claimant)
),
taken AS (
    UPDATE @jobs SET
        status = 'running', owner = $3, fence = fence + 1, attempt = attempt + 1, claim = $6,
        started_at = CASE WHEN due_at > $4 AND due_at <= $5 THEN due_at ELSE $4 END
    FROM locked
    WHERE jobs.seq = locked.seq AND (SELECT count(*) FROM locked) = cardinality($1::bigint[])
    RETURNING {claim}
)
SELECT taken.*, (SELECT array_agg(seq) FROM locked) FROM (SELECT) AS answer LEFT JOIN taken ON true

-- name: release_claimed
-- What was taken by calls of claim() whose answers were lost. Parameters: the owner, the numbers of the calls.
UPDATE @jobs SET status = 'scheduled', ready = true, owner = NULL, attempt = attempt - 1
WHERE status = 'running' AND owner = $1 AND claim = ANY ($2::bigint[])

-- name: delete_inserted
-- What was inserted for an owner by a call that has failed: nothing runs it. Parameters: the owner, the ids.
DELETE FROM @jobs WHERE status = 'running' AND owner = $1 AND fence = 1 AND id = ANY ($2::text[])

-- name: passed_over
-- What else a claim has to know, a sum: 1, there are jobs that run apart; 2, parked calls; 4, limits.
SELECT EXISTS (SELECT 1 FROM @suspects WHERE is_apart AND NOT is_held)::integer
    + 2 * EXISTS (SELECT 1 FROM @jobs WHERE is_parked)::integer + 4 * EXISTS (SELECT 1 FROM @task_limits)::integer

-- name: oldest_snapshot
-- How many transactions have begun since the oldest snapshot in this database that is still used; NULL: not known here,
-- because a role sees those of its own sessions alone, unless it is a member of pg_read_all_stats.
SELECT max(age(backend_xmin)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
