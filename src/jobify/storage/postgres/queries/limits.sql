-- Limits; see sql/limits.py. A job that waits at a gate has one blocker more, as long as limit_waiters has a row with its
-- number and its fence. Rows of gates are locked once in a transaction, in the order of their ids, after those of jobs;
-- what is locked later (jobs that wait) is passed over where another transaction has it.

-- name: limits_of_tasks
SELECT task_limits.task, limits.name, limits.kind, limits.maximum, limits.per, limits.burst, limits.key, limits.on_excess,
    limits.weights
FROM @task_limits JOIN @limits ON limits.name = task_limits.name
WHERE task_limits.task = ANY ($1::text[]) ORDER BY task_limits.task, task_limits.position

-- name: gate_columns
gates.id, gates.name, gates.key, limits.kind, coalesce(
    (SELECT its.maximum FROM @limit_settings AS its WHERE its.name = gates.name AND its.key = gates.key),
    (SELECT its.maximum FROM @limit_settings AS its WHERE its.name = gates.name AND its.key = ''),
    limits.maximum
), limits.per, limits.burst, gates.active, gates.tat, gates.closed_until, gates.is_waited, gates.turned_at

-- name: gates_of_keys
SELECT {gate} FROM unnest($1::text[], $2::text[]) AS v (name, key)
JOIN @limit_gates AS gates ON gates.name = v.name AND gates.key = v.key JOIN @limits ON limits.name = gates.name

-- name: gates
SELECT {gate} FROM @limit_gates AS gates JOIN @limits ON limits.name = gates.name WHERE gates.id = ANY ($1::bigint[])

-- name: lock_gates
-- A statement of its own: one that waits for a lock and reads would read limits and settings as they were before.
SELECT id FROM @limit_gates WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE

-- name: gates_of_limits
SELECT id FROM @limit_gates WHERE name = ANY ($1::text[])

-- name: add_gates
INSERT INTO @limit_gates (name, key) SELECT name, key FROM unnest($1::text[], $2::text[]) AS v (name, key)
ON CONFLICT DO NOTHING

-- name: change_gates
UPDATE @limit_gates AS gates SET active = v.active, tat = v.tat, closed_until = v.closed_until, opens_at = v.opens_at,
    is_waited = v.is_waited = 1, turned_at = v.turned_at
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS v (id, active, tat, closed_until, opens_at, is_waited, turned_at)
WHERE gates.id = v.id

-- name: hold_limits
INSERT INTO @limit_holders (job_id, fence, gate, owner, batch)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])

-- name: holders_of_claims
SELECT held.job_id, held.fence, held.gate, held.batch
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS v (job_id, fence, owner)
JOIN @limit_holders AS held ON held.job_id = v.job_id AND held.fence = v.fence AND held.owner = v.owner

-- name: holders_of_batches
SELECT job_id, fence, gate, batch FROM @limit_holders WHERE batch = ANY ($1::text[])

-- name: holders_of_owners
SELECT job_id, fence, gate, batch FROM @limit_holders WHERE owner = ANY ($1::bigint[])

-- name: orphaned_holders
SELECT job_id, fence, gate, batch FROM @limit_holders AS held
WHERE NOT is_kept AND NOT EXISTS (
    SELECT 1 FROM @jobs WHERE jobs.id = held.job_id AND jobs.fence = held.fence AND jobs.status = 'running'
)
FOR UPDATE SKIP LOCKED

-- name: keep_holders
-- Of a claim: the job, the fence.
UPDATE @limit_holders SET is_kept = true WHERE job_id = $1 AND fence = $2

-- name: change_options
UPDATE @jobs SET options = v.options FROM unnest($1::text[], $2::text[]) AS v (id, options) WHERE jobs.id = v.id

-- name: drop_holders
-- Of jobs whose claims have been settled. An older claim of a job may be kept.
DELETE FROM @limit_holders WHERE job_id = ANY ($1::text[]) AND NOT is_kept

-- name: drop_holder
-- Of a claim: the job, the fence.
DELETE FROM @limit_holders WHERE job_id = $1 AND fence = $2

-- name: give_up_keys
-- Of jobs with limits, which have admitted them: so long they have a key that is theirs until the start.
UPDATE @jobs SET unique_key = NULL WHERE id = ANY ($1::text[]) AND unique_key LIKE 'start:%'

-- name: refuse
-- Jobs that were claimed in this transaction wait at a gate instead: neither an attempt nor a start.
UPDATE @jobs SET status = 'scheduled', ready = true, owner = NULL, started_at = NULL, attempt = attempt - 1,
    blockers = blockers + 1
FROM unnest($1::text[], $2::bigint[]) AS v (id, gate) WHERE jobs.id = v.id

-- name: hold_back
-- Jobs that were just inserted wait at a gate.
UPDATE @jobs SET blockers = blockers + 1 FROM unnest($1::text[], $2::bigint[]) AS v (id, gate) WHERE jobs.id = v.id

-- name: count_waiters
-- Not those that do not wait here any more.
SELECT its.gate, count(*) FROM @limit_waiters AS its
JOIN @jobs ON jobs.seq = its.seq AND jobs.fence = its.fence AND jobs.status = 'scheduled'
WHERE its.gate = ANY ($1::bigint[]) GROUP BY its.gate

-- name: count_others
-- Those that have places at these gates, and stand in the line of another limit that refuses some.
SELECT gates.id, count(*) FROM @limit_lanes AS lanes
JOIN @limit_gates AS other ON other.id = lanes.gate
JOIN @limits AS its ON its.name = other.name AND its.on_excess <> 'wait'
JOIN @limit_gates AS gates ON gates.id = ANY ($1::bigint[]) AND gates.name <> other.name
JOIN @task_limits ON task_limits.task = lanes.task AND task_limits.name = gates.name
JOIN @limits ON limits.name = gates.name
JOIN @limit_waiters AS waiter
    ON waiter.gate = lanes.gate AND waiter.task = lanes.task AND waiter.queue = lanes.queue
JOIN @jobs ON jobs.seq = waiter.seq AND jobs.fence = waiter.fence AND jobs.status = 'scheduled'
WHERE limits.key IS NULL OR @json_of(jobs.options) -> 'limit_keys' ->> limits.key = gates.key
GROUP BY gates.id

-- name: add_waiters
INSERT INTO @limit_waiters (seq, fence, gate, task, queue, rank, due_at)
SELECT jobs.seq, jobs.fence, v.gate, jobs.task, jobs.queue, -jobs.priority, coalesce(v.place, jobs.due_at)
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS v (id, gate, place) JOIN @jobs ON jobs.id = v.id
ON CONFLICT (seq) DO UPDATE SET fence = excluded.fence, gate = excluded.gate, task = excluded.task,
    queue = excluded.queue, rank = excluded.rank, due_at = excluded.due_at

-- name: add_lanes
INSERT INTO @limit_lanes (gate, task, queue) SELECT DISTINCT v.gate, jobs.task, jobs.queue
FROM unnest($1::text[], $2::bigint[]) AS v (id, gate) JOIN @jobs ON jobs.id = v.id ON CONFLICT DO NOTHING

-- name: wait_at
UPDATE @limit_gates SET is_waited = true WHERE id = ANY ($1::bigint[])

-- name: open_lanes
-- Where jobs wait at gates that are open, of these tasks.
SELECT lanes.gate, lanes.task, lanes.queue FROM @limit_gates AS gates JOIN @limit_lanes AS lanes ON lanes.gate = gates.id
WHERE gates.is_waited AND gates.opens_at <= $1 AND lanes.task = ANY ($4::text[])
    AND ($2::text IS NULL OR lanes.queue IN (SELECT json_array_elements_text($3::text::json)))
    AND lanes.queue NOT IN (SELECT name FROM @paused_queues)
ORDER BY gates.opens_at, gates.turned_at LIMIT 1024

-- name: first_waiters
-- The first jobs in these lines, and whether each waits for nothing else: NULL, it does not wait here any more. A job that
-- another transaction has locked is passed over, up to a hundred of them.
SELECT v.gate, v.task, v.queue, coalesce(waiter.id, ''), waiter.seq, waiter.rank, coalesce(waiter.job_due_at, 0),
    waiter.due_at,
    CASE WHEN waiter.is_waiting THEN waiter.blockers = 1 END
FROM unnest($2::bigint[], $3::text[], $4::text[]) AS v (gate, task, queue)
CROSS JOIN LATERAL (
    SELECT first.seq, first.rank, first.due_at, job.id, job.due_at AS job_due_at, job.blockers,
        job.fence = first.fence AND job.status = 'scheduled' AS is_waiting
    FROM (
        SELECT its.seq, its.fence, its.rank, its.due_at FROM @limit_waiters AS its
        WHERE its.gate = v.gate AND its.task = v.task AND its.queue = v.queue
        ORDER BY its.rank, its.due_at, its.seq LIMIT $1::bigint + 100 FOR UPDATE SKIP LOCKED
    ) AS first
    LEFT JOIN LATERAL (
        SELECT jobs.id, jobs.due_at, jobs.fence, jobs.status, jobs.blockers FROM @jobs WHERE jobs.seq = first.seq
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS job ON true
    WHERE job.fence IS NOT NULL OR NOT EXISTS (SELECT 1 FROM @jobs WHERE jobs.seq = first.seq)
    ORDER BY first.rank, first.due_at, first.seq LIMIT $1
) AS waiter

-- name: batch_waiters
-- What else decides whether jobs that wait make a batch. They are locked.
SELECT seq, created_at, options FROM @jobs WHERE seq = ANY ($1::bigint[])

-- name: admit_waiters
-- Their entries are locked; a job may have been changed meanwhile that was not.
UPDATE @jobs SET blockers = blockers - 1 FROM @limit_waiters AS its
WHERE jobs.seq = ANY ($1::bigint[]) AND its.seq = jobs.seq AND its.fence = jobs.fence AND jobs.status = 'scheduled'

-- name: drop_waiters
DELETE FROM @limit_waiters WHERE seq = ANY ($1::bigint[])

-- name: drop_lanes
-- The lines before these gates in which no job waits.
DELETE FROM @limit_lanes AS lanes WHERE gate = ANY ($1::bigint[]) AND NOT EXISTS (
    SELECT 1 FROM @limit_waiters AS its
    WHERE its.gate = lanes.gate AND its.task = lanes.task AND its.queue = lanes.queue
)

-- name: waited_gates
-- Those of these gates at which a job may wait.
SELECT DISTINCT gate FROM @limit_lanes WHERE gate = ANY ($1::bigint[])

-- name: next_opening
-- Of gates that time opens. (The number is NEVER of model/limit_gates.py.)
SELECT min(opens_at) FROM @limit_gates WHERE is_waited AND opens_at > $1 AND opens_at < 4611686018427387904

-- name: drop_task_limits
DELETE FROM @task_limits WHERE task = ANY ($1::text[])

-- name: add_task_limits
INSERT INTO @task_limits (task, position, name) SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])

-- name: define_limits
INSERT INTO @limits (name, kind, maximum, per, burst, key, on_excess, weights)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[])
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, maximum = excluded.maximum, per = excluded.per,
    burst = excluded.burst, key = excluded.key, on_excess = excluded.on_excess, weights = excluded.weights

-- name: misplaced_waiters
-- Jobs of these tasks that wait at a gate of a limit which their task does not have.
SELECT its.seq, coalesce(jobs.fence = its.fence AND jobs.status = 'scheduled', false)
FROM @limit_lanes AS lanes JOIN @limit_gates AS gates ON gates.id = lanes.gate
JOIN @limit_waiters AS its ON its.gate = lanes.gate AND its.task = lanes.task AND its.queue = lanes.queue
LEFT JOIN @jobs ON jobs.seq = its.seq
WHERE lanes.task = ANY ($1::text[])
    AND NOT EXISTS (SELECT 1 FROM @task_limits WHERE task_limits.task = lanes.task AND task_limits.name = gates.name)
FOR UPDATE OF its

-- name: keys_of_limits
-- By which keys these limits have gates.
SELECT name, kind, key FROM @limits WHERE name = ANY ($1::text[])

-- name: waiters_of_limits
SELECT its.seq, coalesce(jobs.fence = its.fence AND jobs.status = 'scheduled', false)
FROM @limit_gates AS gates JOIN @limit_waiters AS its ON its.gate = gates.id LEFT JOIN @jobs ON jobs.seq = its.seq
WHERE gates.name = ANY ($1::text[])
FOR UPDATE OF its

-- name: set_limit
INSERT INTO @limit_settings (name, key, maximum) VALUES ($1, $2, $3)
ON CONFLICT (name, key) DO UPDATE SET maximum = excluded.maximum

-- name: reset_limit
DELETE FROM @limit_settings WHERE name = $1 AND key = $2

-- name: list_limits
-- Entries that do not wait any more are left out where they can be: up to ten thousand are looked at.
SELECT limits.name, '', limits.kind, coalesce(its.maximum, limits.maximum), limits.per, limits.burst,
    its.maximum IS NOT NULL,
    (SELECT coalesce(sum(active), 0)::bigint FROM @limit_gates AS gates WHERE gates.name = limits.name),
    coalesce(nullif((SELECT count(*) FROM (
        SELECT 1 FROM @limit_gates AS gates JOIN @limit_waiters AS waiter ON waiter.gate = gates.id
        JOIN @jobs ON jobs.seq = waiter.seq AND jobs.fence = waiter.fence AND jobs.status = 'scheduled'
        WHERE gates.name = limits.name AND gates.is_waited LIMIT 10000
    ) AS waiters), 10000), (
        SELECT count(*) FROM @limit_gates AS gates JOIN @limit_waiters AS waiter ON waiter.gate = gates.id
        WHERE gates.name = limits.name AND gates.is_waited
    )), limits.key
FROM @limits LEFT JOIN @limit_settings AS its ON its.name = limits.name AND its.key = ''
WHERE limits.name IN (SELECT name FROM @task_limits)

-- name: list_limit_keys
SELECT name, key, kind, coalesce(own, its, maximum), per, burst, own IS NOT NULL, active, waiting, path FROM (
    SELECT limits.key AS path, gates.name, gates.key, gates.active, limits.kind, limits.maximum, limits.per, limits.burst,
        own.maximum AS own, its.maximum AS its,
        coalesce(nullif((SELECT count(*) FROM (
            SELECT 1 FROM @limit_waiters AS waiter
            JOIN @jobs ON jobs.seq = waiter.seq AND jobs.fence = waiter.fence AND jobs.status = 'scheduled'
            WHERE waiter.gate = gates.id LIMIT 10000
        ) AS waiters), 10000), (SELECT count(*) FROM @limit_waiters AS waiter WHERE waiter.gate = gates.id)) AS waiting
    FROM @limits JOIN @limit_gates AS gates ON gates.name = limits.name
    LEFT JOIN @limit_settings AS own ON own.name = gates.name AND own.key = gates.key AND own.key <> ''
    LEFT JOIN @limit_settings AS its ON its.name = gates.name AND its.key = ''
    WHERE limits.name = $1 AND (gates.active > 0 OR gates.is_waited OR own.maximum IS NOT NULL)
) AS found
ORDER BY waiting DESC, active DESC, key LIMIT $2

-- name: limit_waits
SELECT jobs.id, gates.name, gates.key, limits.kind, coalesce(
    (SELECT its.maximum FROM @limit_settings AS its WHERE its.name = gates.name AND its.key = gates.key),
    (SELECT its.maximum FROM @limit_settings AS its WHERE its.name = gates.name AND its.key = ''),
    limits.maximum
), gates.active, (
    SELECT count(*) FROM (
        SELECT 1 FROM @limit_waiters AS before
        WHERE before.gate = waiter.gate AND before.task = waiter.task AND before.queue = waiter.queue
            AND (before.rank, before.due_at, before.seq) <= (waiter.rank, waiter.due_at, waiter.seq) LIMIT 10001
    ) AS ahead
)
FROM @jobs JOIN @limit_waiters AS waiter ON waiter.seq = jobs.seq AND waiter.fence = jobs.fence
JOIN @limit_gates AS gates ON gates.id = waiter.gate JOIN @limits ON limits.name = gates.name
WHERE jobs.id = ANY ($1::text[]) AND jobs.status = 'scheduled'
