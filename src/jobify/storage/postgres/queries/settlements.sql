-- Settlements.

-- name: settled_columns
$1::text[], $2::boolean[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[],
$9::text[], $10::bigint[], $11::bigint[], $12::boolean[], $13::boolean[], $14::text[], $15::bigint[], $16::bigint[]

-- name: settled_alike
-- The same where these columns are one value: that of ordinary jobs that have succeeded.
SELECT
    $1::text AS status, $2::boolean AS ready, v.due_at, $4::bigint AS offset_at, v.attempt, $6::bigint AS run_count,
    $7::bigint AS failure_count, v.result, $9::text AS error, v.finished_at, v.delete_at, $12::boolean AS is_dead,
    $13::boolean AS is_lost, v.id, $15::bigint AS owner, v.fence
FROM unnest($3::bigint[], $5::bigint[], $8::bytea[], $10::bigint[], $11::bigint[], $14::text[], $16::bigint[])
    AS v (due_at, attempt, result, finished_at, delete_at, id, fence)

-- name: settled_each
SELECT * FROM unnest({settled_columns})

-- name: settled_values
status = v.status, ready = v.ready, due_at = v.due_at, offset_at = v.offset_at, attempt = v.attempt,
run_count = v.run_count, failure_count = v.failure_count, result = v.result, error = v.error,
finished_at = v.finished_at, delete_at = v.delete_at, is_dead = v.is_dead, owner = NULL,
crashes = CASE v.attempt WHEN 0 THEN 0 ELSE crashes + v.is_lost::integer END

-- name: settle
-- Those whose claims hold, and, with {if_plain}, for whose jobs nothing is pending. Answers which ones. A row is looked up by
-- its id and then taken by its place, so that the planner cannot begin with all that run. One that another transaction
-- changes meanwhile has another place then, and is left out; servers before 17.7, 16.11, 15.15 and 14.20 do not look at
-- the place again, but at the other conditions. (owner + 0, status || '': what runs is in an index, too, which looks small
-- to the planner at times when nothing runs.)
UPDATE @jobs SET {settled_values}
FROM ({settled}) AS v (
    status, ready, due_at, offset_at, attempt, run_count, failure_count, result, error, finished_at, delete_at, is_dead,
    is_lost, id, owner, fence
)
WHERE jobs.ctid = (SELECT found.ctid FROM @jobs AS found WHERE found.id = v.id)
    AND jobs.owner + 0 = v.owner AND jobs.fence = v.fence AND jobs.status || '' = 'running' {if_plain}
RETURNING jobs.id

-- name: settle_all
-- All of them or none: those that are plain are locked, and written if they are as many as there are ($17), and where they
-- were before they were locked.
WITH
v AS MATERIALIZED (
    SELECT *, (SELECT found.ctid FROM @jobs AS found WHERE found.id = v.id) AS place
    FROM unnest({settled_columns}) AS v (
        status, ready, due_at, offset_at, attempt, run_count, failure_count, result, error, finished_at, delete_at,
        is_dead, is_lost, id, owner, fence
    )
),
locked AS MATERIALIZED (
    SELECT jobs.ctid AS place, v.place AS place_before FROM v JOIN @jobs ON jobs.ctid = v.place
        AND jobs.owner + 0 = v.owner AND jobs.fence = v.fence AND jobs.status || '' = 'running' {if_plain}
    FOR NO KEY UPDATE OF jobs
)
UPDATE @jobs SET {settled_values}
FROM v WHERE jobs.ctid = v.place AND (SELECT count(*) FROM locked WHERE place = place_before) = $17

-- name: if_plain
AND NOT jobs.has_successor AND NOT jobs.has_cancel AND NOT jobs.has_dependents AND NOT jobs.has_kept AND jobs.blockers = 0

-- name: valid_claims
-- Of these claims (id, owner, fence), those that hold, with what is pending for them.
SELECT
    held.id, held.owner, held.fence, held.has_successor, held.has_cancel, held.has_dependents OR held.has_kept,
    held.blockers, held.is_paused, false, held.attempt, held.run_count
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS v (id, owner, fence)
JOIN @jobs AS held ON held.id = v.id AND held.owner + 0 = v.owner AND held.fence = v.fence AND held.status || '' = 'running'
ORDER BY held.seq FOR NO KEY UPDATE OF held

-- name: settled_before
-- Of these jobs (id, fence), those that no owner has and that are as these settlements say.
SELECT jobs.id FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[])
    AS v (id, fence, status, due_at, run_count)
JOIN @jobs ON jobs.id = v.id AND jobs.fence = v.fence AND jobs.owner IS NULL AND jobs.status = v.status
    AND jobs.due_at = v.due_at AND jobs.run_count = v.run_count

-- name: drop_cancel
UPDATE @jobs SET has_cancel = false WHERE id = ANY ($1::text[])

-- name: become_successor
-- The fence is raised: it is another job now.
UPDATE @jobs SET
    status = 'scheduled', owner = NULL, fence = fence + 1, attempt = 0, crashes = 0, has_successor = false,
    has_cancel = false, started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, error = NULL,
    is_dead = false, progress = NULL, unique_key = s.unique_key, expires_at = s.expires_at,
    blockers = (jobs.is_paused AND s.rule IS NOT NULL)::integer, parked = NULL,
    is_paused = jobs.is_paused AND s.rule IS NOT NULL,
    task = s.task, queue = s.queue, priority = s.priority, ready = s.ready, due_at = s.due_at,
    offset_at = s.offset_at, created_at = s.created_at, origin = s.origin, run_count = s.run_count,
    failure_count = s.failure_count, rule = s.rule, options = s.options, payload = s.payload
FROM @successors AS s
WHERE s.id = jobs.id AND jobs.id = ANY ($1::text[]) AND jobs.has_successor

-- name: become_cancelled
UPDATE @jobs SET
    status = 'cancelled', owner = NULL, has_cancel = false, blockers = 0, is_paused = false,
    error = c.reason, finished_at = c.requested_at, delete_at = c.delete_at, result = NULL
FROM @cancels AS c
WHERE c.id = jobs.id AND jobs.id = ANY ($1::text[]) AND jobs.has_cancel

-- name: delete_orphaned_successors
DELETE FROM @successors
WHERE NOT EXISTS (SELECT 1 FROM @jobs WHERE jobs.id = successors.id AND jobs.has_successor)

-- name: delete_orphaned_cancels
DELETE FROM @cancels WHERE NOT EXISTS (SELECT 1 FROM @jobs WHERE jobs.id = cancels.id AND jobs.has_cancel)
