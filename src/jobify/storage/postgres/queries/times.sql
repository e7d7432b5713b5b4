-- Changes of the clock.

-- name: clock_state
-- At first there is no row. Inside a transaction it is locked, so that two that learn something take turns.
SELECT changes, coalesce(trusted_at, (SELECT created_at FROM @jobs ORDER BY seq DESC LIMIT 1)), doubted_at
FROM (
    SELECT coalesce(max(changes), 0) AS changes, max(trusted_at) AS trusted_at, max(doubted_at) AS doubted_at
    FROM (SELECT * FROM @clock {lock}) AS clock
) AS state

-- name: keep_clock_state
INSERT INTO @clock (id, changes, trusted_at, doubted_at) VALUES (1, $1, $2, $3)
ON CONFLICT (id) DO UPDATE SET
    changes = excluded.changes, trusted_at = excluded.trusted_at, doubted_at = excluded.doubted_at

-- name: shift_delays
-- Elapsed times that end in the future move by the change; not those that were counted from a time between the other two
-- parameters, which were written after the change. A delay was counted from its offset_at, the wait of a schedule at
-- most from the start of its last run.
UPDATE @jobs SET
    due_at = due_at + $1, offset_at = CASE WHEN rule IS NULL THEN offset_at + $2 ELSE offset_at END, fence = fence + 1
WHERE status = 'scheduled' AND NOT ready
    AND CASE
        WHEN rule IS NULL THEN offset_at
        WHEN attempt > 0 OR due_at > offset_at THEN coalesce(started_at, created_at)
    END NOT BETWEEN $3 AND $4

-- name: shift_expiries
-- With the fence goes the place at a gate.
UPDATE @jobs SET expires_at = expires_at + $1, fence = fence + 1,
    blockers = blockers - EXISTS (
        SELECT 1 FROM @limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence
    )::integer
WHERE expires_at IS NOT NULL AND status = 'scheduled' AND created_at NOT BETWEEN $2 AND $3
    AND @json_of(options) -> 'expires' IS NOT NULL

-- name: shift_successors
UPDATE @successors SET due_at = due_at + $1, offset_at = offset_at + $2
WHERE rule IS NULL AND NOT ready AND offset_at NOT BETWEEN $3 AND $4

-- name: shift_gates
-- The times of rates. Parameters: the change; from which to which time a gate was turned after it.
UPDATE @limit_gates AS gates SET
    tat = greatest(gates.tat + $1::bigint, 0),
    closed_until = CASE gates.closed_until WHEN 0 THEN 0 ELSE greatest(gates.closed_until + $1::bigint, 0) END,
    opens_at = CASE
        WHEN gates.opens_at IN (0, 4611686018427387904) THEN gates.opens_at ELSE greatest(gates.opens_at + $1::bigint, 0)
    END,
    turned_at = greatest(gates.turned_at + $1::bigint, 0)
FROM (
    SELECT its.id FROM @limit_gates AS its JOIN @limits ON limits.name = its.name
    WHERE limits.kind = 'rate' AND its.turned_at NOT BETWEEN $2 AND $3 ORDER BY its.id FOR NO KEY UPDATE OF its
) AS locked
WHERE gates.id = locked.id

-- name: waiting_schedules
SELECT id, fence, rule, due_at, offset_at, started_at, attempt FROM @jobs
WHERE rule IS NOT NULL AND status = 'scheduled' AND due_at > $1 AND id > $2 ORDER BY id LIMIT $3

-- name: schedules
SELECT id, fence, rule, due_at, offset_at, started_at, attempt FROM @jobs
WHERE id = ANY ($1::text[]) AND rule IS NOT NULL AND status = 'scheduled'

-- name: move_schedules
-- Only what is still as it was seen, by its fence. With that goes its place at a gate.
UPDATE @jobs SET due_at = v.due_at, offset_at = v.offset_at, ready = v.due_at <= $1, fence = jobs.fence + 1,
    blockers = blockers - EXISTS (
        SELECT 1 FROM @limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence
    )::integer
FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS v (id, fence, due_at, offset_at)
WHERE jobs.id = v.id AND jobs.fence = v.fence AND jobs.status = 'scheduled'

-- name: mend_delays
-- Parameters: now, now, how many of the farthest to look at, and after which time. A clock that was ahead wrote the
-- farthest ones.
UPDATE @jobs SET due_at = $1 + (due_at - offset_at), offset_at = $2, fence = fence + 1
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, rule, offset_at FROM @jobs WHERE status = 'scheduled' AND NOT ready AND blockers = 0
        ORDER BY due_at DESC LIMIT $3
    ) AS farthest WHERE rule IS NULL AND offset_at > $4
)

-- name: mend_retention
-- Parameters: now, how many of the farthest to look at, and after which time.
UPDATE @jobs SET delete_at = $1 + (delete_at - finished_at)
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, finished_at, delete_at FROM @jobs WHERE delete_at IS NOT NULL AND NOT is_kept
        ORDER BY delete_at DESC LIMIT $2
    ) AS farthest WHERE finished_at > $3 AND delete_at >= finished_at
)

-- name: keep_ended
-- Parameters: by how much; from which to which time they would be deleted; from which to which they ended; how many.
UPDATE @jobs SET delete_at = delete_at + $1
WHERE seq IN (
    SELECT seq FROM @jobs
    WHERE delete_at IS NOT NULL AND NOT is_kept AND delete_at BETWEEN $2 AND $3 AND finished_at BETWEEN $4 AND $5
    LIMIT $6
)
