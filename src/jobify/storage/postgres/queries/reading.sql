-- Reading: get, find, count.

-- name: record_columns
jobs.id, jobs.task, jobs.queue, jobs.priority, jobs.status, jobs.ready, jobs.due_at, jobs.created_at, jobs.payload,
jobs.rule, jobs.offset_at, jobs.options, jobs.origin, jobs.owner, jobs.fence, jobs.attempt, jobs.started_at,
jobs.finished_at, jobs.delete_at, jobs.result, jobs.error, jobs.run_count, jobs.failure_count, jobs.crashes,
jobs.has_cancel, jobs.has_successor, jobs.unique_key, jobs.expires_at, jobs.is_dead,
-- A barrier is one blocker in the row, and as many parents as it waits for.
jobs.blockers + CASE WHEN jobs.blockers > 0 AND jobs.status = 'scheduled' THEN coalesce((
    SELECT barriers.waiting - 1 FROM @dependencies JOIN @barriers ON barriers.seq = -dependencies.parent
    WHERE dependencies.child = jobs.seq AND dependencies.is_open LIMIT 1
), 0) ELSE 0 END,
jobs.progress,
jobs.blockers > jobs.is_paused::integer + jobs.is_parked::integer
    AND EXISTS (SELECT 1 FROM @suspects WHERE suspects.job = jobs.seq AND suspects.is_apart),
CASE WHEN jobs.is_parked THEN coalesce(jobs.parked, '') END,
jobs.blockers > jobs.is_paused::integer + jobs.is_parked::integer AND jobs.status = 'scheduled' AND EXISTS (
    SELECT 1 FROM @limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence
)

-- name: get
SELECT {record} FROM @jobs WHERE jobs.id = ANY ($1::text[]) {lock}

-- name: find
SELECT {record} FROM @jobs WHERE {filters} ORDER BY jobs.id {direction} LIMIT {limit} {lock}

-- name: find_running
-- A million waiting ones lie between those that run, which are few enough to be sorted. (OFFSET 0 keeps the planner from
-- reading all jobs in the order of their ids.)
SELECT {record} FROM @jobs WHERE seq = ANY (ARRAY(
    SELECT seq FROM (SELECT seq, id FROM @jobs WHERE status = 'running' AND {filters} OFFSET 0) AS running
    ORDER BY id {direction} LIMIT {limit}
)) ORDER BY jobs.id {direction} {lock}

-- name: find_unsuccessful
-- Of one status, so that the index gives the order.
SELECT {record} FROM @jobs
WHERE finished_at IS NOT NULL AND status <> 'success' AND status = {status} AND {filters}
ORDER BY jobs.id {direction} LIMIT {limit} {lock}

-- name: find_live
-- All that has not ended. What waits or runs as it was enqueued, due at once, is in no index of ids: it is sorted.
SELECT {record} FROM @jobs WHERE seq = ANY (ARRAY(
    SELECT seq FROM (
        (
            SELECT seq, id FROM @jobs
            WHERE status IN ('scheduled', 'running') AND (due_at <> created_at OR NOT ready) AND {filters}
            ORDER BY id {direction} LIMIT {limit}
        )
        UNION ALL
        SELECT seq, id FROM @jobs
        WHERE status = 'scheduled' AND ready AND blockers = 0 AND due_at = created_at AND {filters}
        UNION ALL
        SELECT seq, id FROM @jobs
        WHERE blockers > 0 AND status = 'scheduled' AND ready AND due_at = created_at AND {filters}
        UNION ALL
        SELECT seq, id FROM @jobs WHERE status = 'running' AND ready AND due_at = created_at AND {filters}
    ) AS live ORDER BY id {direction} LIMIT {limit}
)) ORDER BY jobs.id {direction} {lock}

-- name: find_live_among
-- The same, looked for among the first rows in the order of the list.
SELECT {record} FROM @jobs WHERE seq = ANY (ARRAY(
    SELECT seq FROM (SELECT * FROM @jobs WHERE {after} ORDER BY id {direction} LIMIT {rows}) AS jobs
    WHERE status IN ('scheduled', 'running') AND {filters} ORDER BY id {direction} LIMIT {limit}
)) ORDER BY jobs.id {direction} {lock}

-- name: count_unsorted
-- How many jobs find_live would sort, up to a limit.
SELECT (
    SELECT count(*) FROM (
        SELECT 1 FROM @jobs WHERE status = 'scheduled' AND ready AND blockers = 0 AND {filters} LIMIT {limit}
    ) AS waiting
) + (
    SELECT count(*) FROM (
        SELECT 1 FROM @jobs WHERE blockers > 0 AND status = 'scheduled' AND {filters} LIMIT {limit}
    ) AS blocked
)

-- name: count_running
SELECT task, queue, status, is_dead, count(*) FROM @jobs
WHERE status = 'running' AND {filters} GROUP BY task, queue, status, is_dead

-- name: count_unsuccessful
SELECT task, queue, status, is_dead, count(*) FROM @jobs
WHERE finished_at IS NOT NULL AND status <> 'success' AND {filters} GROUP BY task, queue, status, is_dead

-- name: count_live
-- What has not ended, from the indexes that hold it. A queue with a task may come several times: ready, staged, blocked.
SELECT task, queue, 'scheduled', false, count(*) FROM @jobs
WHERE status = 'scheduled' AND ready AND blockers = 0 AND {filters} GROUP BY queue, task
UNION ALL
SELECT task, queue, 'scheduled', false, count(*) FROM @jobs
WHERE status = 'scheduled' AND NOT ready AND blockers = 0 AND {filters} GROUP BY queue, task
UNION ALL
SELECT task, queue, 'scheduled', false, count(*) FROM @jobs
WHERE blockers > 0 AND status = 'scheduled' AND {filters} GROUP BY queue, task
UNION ALL
SELECT task, queue, 'running', false, count(*) FROM @jobs WHERE status = 'running' AND {filters} GROUP BY queue, task

-- name: count
SELECT task, queue, status, is_dead, count(*) FROM @jobs WHERE {filters} GROUP BY task, queue, status, is_dead

-- name: count_purgeable
-- The parameter is now.
WITH wanted (barrier) AS MATERIALIZED (
    SELECT DISTINCT dependencies.child FROM @jobs
    JOIN @dependencies ON dependencies.parent = jobs.seq
    WHERE delete_at IS NOT NULL AND NOT is_kept AND delete_at <= $1 AND dependencies.child < 0 AND EXISTS (
        SELECT 1 FROM @dependencies AS behind JOIN @jobs AS child ON child.seq = behind.child
        WHERE behind.parent = dependencies.child AND {needing}
    )
)
SELECT task, queue, status, is_dead, count(*) FROM @jobs
WHERE delete_at IS NOT NULL AND NOT is_kept AND delete_at <= $1 AND NOT (
    status IN ('success', 'cancelled') AND (
        EXISTS (
            SELECT 1 FROM @dependencies JOIN @jobs AS child ON child.seq = dependencies.child
            WHERE dependencies.parent = jobs.seq AND {needing}
        )
        OR EXISTS (
            SELECT 1 FROM @dependencies
            WHERE dependencies.parent = jobs.seq AND dependencies.child IN (SELECT barrier FROM wanted)
        )
    )
)
GROUP BY task, queue, status, is_dead

-- name: find_unique
SELECT max(id) FROM @jobs
WHERE unique_key = $1 AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: nodes
-- What stands for a job among dependencies: its number, and the barriers before it (ahead) or behind it.
WITH target (seq) AS MATERIALIZED (SELECT seq FROM @jobs WHERE id = $1)
SELECT true, seq FROM target
UNION ALL SELECT false, seq FROM target
UNION ALL SELECT true, dependencies.parent FROM target JOIN @dependencies ON dependencies.child = target.seq
    WHERE dependencies.parent < 0
UNION ALL SELECT false, dependencies.child FROM target JOIN @dependencies ON dependencies.parent = target.seq
    WHERE dependencies.child < 0

-- name: parents_of
-- With the ids that they had when the job was added, and those that they have now, if they are there.
SELECT dependencies.parent, dependencies.parent_id, coalesce(jobs.id, dependencies.parent_id)
FROM @dependencies LEFT JOIN @jobs ON jobs.seq = dependencies.parent
WHERE dependencies.child = ANY ($1::bigint[]) AND dependencies.parent > 0 ORDER BY dependencies.seq

-- name: children_of
SELECT jobs.id FROM @dependencies JOIN @jobs ON jobs.seq = dependencies.child
WHERE dependencies.parent = ANY ($1::bigint[]) ORDER BY dependencies.seq

-- name: kin
-- All that is connected with a job by dependencies, barriers among it; the nearest first.
WITH RECURSIVE kin (node) AS (
    SELECT seq FROM @jobs WHERE id = $1
    UNION
    SELECT near.node FROM kin CROSS JOIN LATERAL (
        SELECT dependencies.child AS node FROM @dependencies WHERE dependencies.parent = kin.node
        UNION ALL
        SELECT dependencies.parent FROM @dependencies WHERE dependencies.child = kin.node
    ) AS near
)
SELECT node FROM kin LIMIT $2

-- name: relatives
SELECT seq, id, task, status, is_dead, left(error, 300) FROM @jobs WHERE seq = ANY ($1::bigint[])

-- name: get_by_seq
SELECT {record}, jobs.seq FROM @jobs WHERE jobs.seq = ANY ($1::bigint[])

-- name: attempts
SELECT job_id, attempt, due_at, outcome, error, traceback, started_at, finished_at, owner, code
FROM @attempts WHERE job_id = $1 ORDER BY seq
