-- Jobs that depend on others, and what others need.

-- name: parent_states
-- What became of these jobs, if anything, and what they were cancelled for. They cannot end until those that are added
-- now wait for them.
SELECT
    jobs.id, jobs.seq, jobs.task, jobs.status, jobs.error, jobs.delete_at, jobs.rule IS NOT NULL,
    jobs.cause, other.id, other.task, other.status, other.error
FROM @jobs LEFT JOIN @jobs AS other ON other.seq = jobs.cause
WHERE jobs.id = ANY ($1::text[]) ORDER BY jobs.seq FOR NO KEY UPDATE OF jobs

-- name: parent_states_by_seq
-- The same, by number.
SELECT
    jobs.id, jobs.seq, jobs.task, jobs.status, jobs.error, jobs.delete_at, jobs.rule IS NOT NULL,
    jobs.cause, other.id, other.task, other.status, other.error
FROM @jobs LEFT JOIN @jobs AS other ON other.seq = jobs.cause
WHERE jobs.seq = ANY ($1::bigint[]) ORDER BY jobs.seq FOR NO KEY UPDATE OF jobs

-- name: seqs
SELECT id, seq FROM @jobs WHERE id = ANY ($1::text[])

-- name: add_edges
INSERT INTO @dependencies (parent, parent_id, child, is_open)
SELECT parent, parent_id, child, is_open <> 0
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS v (parent, parent_id, child, is_open)

-- name: add_barrier
INSERT INTO @barriers (waiting) VALUES ($1) RETURNING seq

-- name: block
UPDATE @jobs SET blockers = v.blockers FROM unnest($1::bigint[], $2::bigint[]) AS v (seq, blockers) WHERE jobs.seq = v.seq

-- name: mark_parents
UPDATE @jobs SET has_dependents = true WHERE seq = ANY ($1::bigint[]) AND NOT has_dependents

-- name: linked
-- Of these jobs, those whose end concerns others.
SELECT seq, id, task, status, error, finished_at, delete_at, has_dependents, has_kept FROM @jobs
WHERE id = ANY ($1::text[]) AND (has_dependents OR has_kept) ORDER BY seq FOR NO KEY UPDATE

-- name: count_down
-- These jobs have succeeded: the barriers behind them wait for so many less.
UPDATE @barriers SET
    waiting = barriers.waiting - ended.number, ended_at = greatest(barriers.ended_at, ended.at)
FROM (
    SELECT dependencies.child, count(*) AS number, max(parents.finished_at) AS at
    FROM @dependencies JOIN @jobs AS parents ON parents.seq = dependencies.parent
    WHERE dependencies.parent = ANY ($1::bigint[]) AND dependencies.is_open AND dependencies.child < 0
    GROUP BY dependencies.child
) AS ended
WHERE barriers.seq = -ended.child

-- name: opened_barriers
-- The barriers behind these jobs that wait for nothing any more.
SELECT DISTINCT dependencies.child
FROM @dependencies JOIN @barriers ON barriers.seq = -dependencies.child
WHERE dependencies.parent = ANY ($1::bigint[]) AND dependencies.is_open AND dependencies.child < 0
    AND barriers.waiting <= 0

-- name: unblock
-- These jobs have succeeded, and these barriers are open. What was ready once stays ready; the rest is if it is due when
-- the last of them ends.
UPDATE @jobs SET blockers = blockers - freed.number, ready = ready OR due_at <= freed.at
FROM (
    SELECT child, count(*) AS number, max(at) AS at FROM (
        SELECT dependencies.child, CASE
            WHEN dependencies.parent > 0
            THEN (SELECT finished_at FROM @jobs AS parents WHERE parents.seq = dependencies.parent)
            ELSE (SELECT ended_at FROM @barriers WHERE barriers.seq = -dependencies.parent)
        END AS at
        FROM @dependencies
        WHERE dependencies.parent = ANY ($1::bigint[]) AND dependencies.is_open AND dependencies.child > 0
    ) AS edges GROUP BY child
) AS freed
WHERE jobs.seq = freed.child AND jobs.status = 'scheduled'

-- name: freeing
-- Of these jobs and barriers, those on which a job depends that waits for nothing else any more.
SELECT number FROM unnest($1::bigint[]) AS v (number)
WHERE EXISTS (
    SELECT 1 FROM @dependencies JOIN @jobs AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = number AND dependencies.is_open
        AND child.status = 'scheduled' AND child.blockers = 0
)

-- name: parents_of_barriers
SELECT parent FROM @dependencies WHERE child = ANY ($1::bigint[]) AND is_open

-- name: dependents
-- What depends on a job, directly or not, nearest first, with the parent that is the reason: the first of those that
-- fall. UNION: each comes once, however many ways lead to it. Barriers are passed. The job itself comes first of all.
WITH RECURSIVE
dependents (seq) AS (
    SELECT $1::bigint
    UNION
    SELECT dependencies.child FROM dependents
    JOIN @dependencies ON dependencies.parent = dependents.seq AND dependencies.is_open
    WHERE dependencies.child < 0
        OR EXISTS (SELECT 1 FROM @jobs AS child WHERE child.seq = dependencies.child AND child.status = 'scheduled')
),
reasons (child, seq) AS MATERIALIZED (
    SELECT dependencies.child, min(dependencies.seq)
    FROM dependents JOIN @dependencies ON dependencies.parent = dependents.seq AND dependencies.is_open
    GROUP BY dependencies.child
),
-- Behind a pooler no setting of ours holds, and a join may return rows in any order.
found (seq, place) AS MATERIALIZED (SELECT seq, row_number() OVER () FROM dependents)
SELECT found.seq, jobs.id, reason.parent, reason.parent_id
FROM found
LEFT JOIN @jobs ON jobs.seq = found.seq
LEFT JOIN reasons ON reasons.child = found.seq
LEFT JOIN @dependencies AS reason ON reason.seq = reasons.seq
ORDER BY found.place

-- name: cancel_dependents
UPDATE @jobs SET
    status = 'cancelled', error = v.error, finished_at = v.finished_at, delete_at = v.delete_at, result = NULL,
    blockers = 0, is_paused = false, is_parked = false, cause = v.cause
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS v (seq, error, finished_at, delete_at, cause)
WHERE jobs.seq = v.seq AND jobs.status = 'scheduled'

-- name: close_dependencies
UPDATE @dependencies SET is_open = false WHERE parent = ANY ($1::bigint[]) AND is_open

-- name: unmark_parents
UPDATE @jobs SET has_dependents = false WHERE seq = ANY ($1::bigint[]) AND has_dependents

-- name: unkeep
-- What the janitor left for the sake of these jobs, or of what fell with them, it may look at again.
WITH RECURSIVE
ended (seq) AS (SELECT seq FROM @jobs WHERE seq = ANY ($1::bigint[]) AND has_kept),
wanting (seq) AS (
    SELECT seq FROM ended
    UNION SELECT child.seq FROM ended JOIN @jobs AS child ON child.cause = ended.seq AND child.cause IS NOT NULL
),
before (node) AS (
    SELECT dependencies.parent FROM wanting JOIN @dependencies ON dependencies.child = wanting.seq
    UNION
    SELECT dependencies.parent FROM before JOIN @dependencies ON dependencies.child = before.node
    WHERE before.node < 0
)
UPDATE @jobs SET is_kept = false WHERE is_kept AND seq IN (SELECT node FROM before)

-- name: unmark_children_of_kept
UPDATE @jobs SET has_kept = false WHERE seq = ANY ($1::bigint[]) AND has_kept

-- name: cancelled_for
-- What was cancelled for these jobs.
SELECT child.seq, child.id, child.unique_key
FROM @jobs AS other JOIN @jobs AS child ON child.cause = other.seq AND child.cause IS NOT NULL
WHERE other.id = ANY ($1::text[]) AND child.status = 'cancelled'
FOR NO KEY UPDATE OF child

-- name: edges_into
-- The dependencies of jobs and barriers.
SELECT parent, child FROM @dependencies WHERE child = ANY ($1::bigint[])

-- name: revive
-- As after retry, but for the due time: these have never run. The third column is now.
UPDATE @jobs SET
    status = 'scheduled', ready = ready OR due_at <= v.now, fence = fence + 1, attempt = 0, crashes = 0,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, error = NULL, is_dead = false,
    progress = NULL, expires_at = NULL, is_kept = false, blockers = v.blockers, is_paused = false, cause = NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS v (seq, blockers, now)
WHERE jobs.seq = v.seq AND jobs.status = 'cancelled'

-- name: close_barriers
UPDATE @barriers SET waiting = v.waiting FROM unnest($1::bigint[], $2::bigint[]) AS v (seq, waiting)
WHERE barriers.seq = v.seq

-- name: reopen
UPDATE @dependencies SET is_open = true FROM unnest($1::bigint[], $2::bigint[]) AS v (parent, child)
WHERE dependencies.child = v.child AND dependencies.parent = v.parent

-- name: change_cause
UPDATE @jobs SET cause = v.cause, error = v.error FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS v (seq, cause, error)
WHERE jobs.seq = v.seq

-- name: forget_cause
-- These jobs are others now: what was cancelled for them stays so.
UPDATE @jobs SET cause = NULL WHERE cause IN (SELECT seq FROM @jobs WHERE id = ANY ($1::text[]))

-- name: forget_parents
DELETE FROM @dependencies WHERE child IN (SELECT seq FROM @jobs WHERE id = ANY ($1::text[]))

-- name: needing
-- A condition on a job (child): it may still need what it depends on. It has not ended, or may be tried again, by itself or
-- with the job that it was cancelled for.
(
    child.status NOT IN ('success', 'cancelled')
    OR (child.status = 'cancelled' AND child.cause IS NOT NULL AND EXISTS (
        SELECT 1 FROM @jobs AS other WHERE other.seq = child.cause AND other.status NOT IN ('success', 'cancelled')
    ))
)

-- name: needs
-- Of these jobs, those that have ended and may be needed: with each job that wants them, and each barrier behind them.
SELECT parents.seq, dependencies.child
FROM @jobs AS parents JOIN @dependencies ON dependencies.parent = parents.seq
WHERE parents.id = ANY ($1::text[]) AND parents.status IN ('success', 'cancelled') AND (
    dependencies.child < 0 OR EXISTS (SELECT 1 FROM @jobs AS child WHERE child.seq = dependencies.child AND {needing})
)

-- name: needs_of_barriers
-- The jobs behind these barriers that want what is before them.
SELECT dependencies.parent, child.seq
FROM @dependencies JOIN @jobs AS child ON child.seq = dependencies.child
WHERE dependencies.parent = ANY ($1::bigint[]) AND {needing}

-- name: ended
SELECT seq, id FROM @jobs
WHERE id = ANY ($1::text[]) AND status IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: deletable
SELECT seq, id FROM @jobs WHERE id = ANY ($1::text[]) AND status <> 'running'

-- name: names_like
-- The ids that begin with one, and the sign after it. Parameters: the id, the sign, the id, the one after that sign.
SELECT id FROM @jobs WHERE id > $1::text || $2::text AND id < $3::text || $4::text

-- name: set_aside
-- Parameters: the new id, the time from when on it may be deleted (twice), the seq.
UPDATE @jobs SET id = $1, delete_at = coalesce(least(delete_at, $2), $3), is_kept = false WHERE seq = $4

-- name: move_attempts
UPDATE @attempts SET job_id = $1 WHERE job_id = $2

-- name: move_messages
UPDATE @messages SET job_id = $1 WHERE job_id = $2
