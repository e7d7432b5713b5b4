-- Every statement of the SQLite storage, by name. {braces} are filled in by statements.py: {rows} is a list of rows of
-- placeholders for VALUES, {ids}, {tasks} and {queues} are lists of placeholders, {record} and {needing} are the statements
-- of those names. Words of JobStatus are written out, because the planner uses a partial index only for a word that it can read.
--
-- Answers are one row. A step of a statement gives up the interpreter's lock, and with a busy event loop it takes
-- milliseconds to get it back; so many rows travel as one: what is small as one JSON text, payloads and results each as
-- one blob that is cut by the lengths in the JSON. (JSON cannot hold a blob, and escaping would cost more than cutting.)
-- json_array() returns text that may not be valid UTF-8 if such a row was written by hand; the CAST returns the bytes.
--
-- Rows of values come padded to a round number, so that few texts of each statement exist and each is compiled once.
-- A row that pads has 0 for its id. The driver takes far longer to bind a NULL than a number; so NULL comes as '' where a
-- number or a blob belongs, and as 0 where a text belongs. Neither can be meant: values without a type affinity are only
-- equal if their types are.


-- Jobs ----------------------------------------------------------------------------------------------------------------

-- name: insert
-- Nothing is inserted while the number of the last job is in last_deleted.
INSERT INTO jobs (
    id, task, queue, priority, status, ready, due_at, created_at, payload, rule, offset_at, options, origin, owner, fence,
    attempt, started_at, unique_key, expires_at
)
SELECT
    column1, column2, column3, column4, column5, column6, column7, column8, column9, nullif(column10, 0),
    nullif(column11, ''), nullif(column12, 0), nullif(column13, ''), nullif(column14, ''), column15, column16,
    nullif(column17, ''), nullif(column18, 0), nullif(column19, '')
FROM (VALUES {rows})
WHERE column1 <> 0 AND NOT EXISTS (SELECT 1 FROM last_deleted)

-- name: insert_started
-- insert, of jobs with nothing but their arguments that their owner has claimed: half as much to bind. Parameters: the owner
-- (twice), and {rows}.
INSERT INTO jobs (
    id, task, queue, priority, due_at, created_at, started_at, payload, origin, owner, status, ready, fence, attempt
)
SELECT column1, column2, column3, column4, column5, column6, column6, column7, ?, ?, 'running', 0, 1, 1
FROM (VALUES {rows})
WHERE column1 <> 0 AND NOT EXISTS (SELECT 1 FROM last_deleted)

-- name: insert_if_free
-- insert, of one row, whose id or unique key may be taken: then nothing is inserted.
INSERT OR IGNORE INTO jobs (
    id, task, queue, priority, status, ready, due_at, created_at, payload, rule, offset_at, options, origin, owner, fence,
    attempt, started_at, unique_key, expires_at
)
SELECT
    column1, column2, column3, column4, column5, column6, column7, column8, column9, nullif(column10, 0),
    nullif(column11, ''), nullif(column12, 0), nullif(column13, ''), nullif(column14, ''), column15, column16,
    nullif(column17, ''), nullif(column18, 0), nullif(column19, '')
FROM (VALUES {rows})
WHERE column1 <> 0 AND NOT EXISTS (SELECT 1 FROM last_deleted)

-- name: insert_plain
-- One job that is due, with nothing but its arguments: half as much to bind.
INSERT INTO jobs (id, task, queue, priority, due_at, created_at, payload, status, ready, fence, attempt)
SELECT ?, ?, ?, ?, ?, ?, ?, 'scheduled', 1, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM last_deleted)

-- name: last_number
-- The number of the last job, if that job was deleted.
SELECT (SELECT seq FROM last_deleted)

-- name: hold_last_number
-- In the place of the last job, so that the next one gets a number that was never given.
INSERT INTO jobs (seq, id, task, queue, priority, status, ready, due_at, created_at, payload, fence, attempt)
VALUES (?, hex(randomblob(16)), '', '', 0, 'success', 0, 0, 0, x'', 0, 0)

-- name: forget_last_number
DELETE FROM last_deleted

-- name: release_last_number
DELETE FROM jobs WHERE seq = ?

-- name: refer_to_payload
UPDATE jobs SET payload_ref = ? WHERE id = ?

-- name: refer_to_result
UPDATE jobs SET result_ref = ? WHERE id = ?

-- name: drop_results
UPDATE jobs SET result_ref = NULL WHERE id IN ({ids})

-- name: next_value
-- The number of a new large value.
SELECT ifnull((SELECT seq >> 20 FROM sqlite_sequence WHERE name = 'value_parts'), 0) + 1

-- name: add_part
INSERT INTO value_parts (seq, data) VALUES (?, ?)

-- name: part
-- One row, also where there is none.
SELECT max(data) FROM value_parts WHERE seq = ?

-- name: unfinished
-- Of these ids, those that are taken: an ended job makes room.
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: keys_taken
-- Of these unique keys, those that a job has which has not ended.
SELECT CAST(json_group_array(unique_key) AS BLOB) FROM jobs
WHERE unique_key IN ({ids}) AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: delete_ended
DELETE FROM jobs
WHERE id IN ({ids}) AND status IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: needing
-- A condition on a job (child): it may still need what it depends on. It has not ended, or may be tried again, by itself or
-- with the job that it was cancelled for.
(
    child.status NOT IN ('success', 'cancelled')
    OR (child.status = 'cancelled' AND child.cause IS NOT NULL AND EXISTS (
        SELECT 1 FROM jobs AS other WHERE other.seq = child.cause AND other.status NOT IN ('success', 'cancelled')
    ))
)

-- name: needs
-- Of these jobs, those that have ended and may be needed: with each job that wants them, and each barrier behind them.
SELECT CAST(json_group_array(json_array(parents.seq, dependencies.child)) AS BLOB)
FROM jobs AS parents CROSS JOIN dependencies ON dependencies.parent = parents.seq
WHERE parents.id IN ({ids}) AND parents.status IN ('success', 'cancelled') AND (
    dependencies.child < 0 OR EXISTS (SELECT 1 FROM jobs AS child WHERE child.seq = dependencies.child AND {needing})
)

-- name: needs_of_barriers
-- The jobs behind these barriers that want what is before them.
SELECT CAST(json_group_array(json_array(dependencies.parent, child.seq)) AS BLOB)
FROM dependencies CROSS JOIN jobs AS child ON child.seq = dependencies.child
WHERE dependencies.parent IN ({ids}) AND {needing}

-- name: ended
SELECT CAST(json_group_array(json_array(seq, id)) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND status IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: deletable
SELECT CAST(json_group_array(json_array(seq, id)) AS BLOB) FROM jobs WHERE id IN ({ids}) AND status <> 'running'

-- name: names_like
-- The ids that begin with one, and the sign after it. Parameters: the id, the sign, the id, the one after that sign.
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs WHERE id > ? || ? AND id < ? || ?

-- name: set_aside
-- Parameters: the new id, the time from when on it may be deleted (twice), the seq.
UPDATE jobs SET id = ?, delete_at = ifnull(min(delete_at, ?), ?), is_kept = 0 WHERE seq = ?

-- name: move_attempts
UPDATE attempts SET job_id = ? WHERE job_id = ?

-- name: move_messages
UPDATE messages SET job_id = ? WHERE job_id = ?

-- name: replace
-- Parameters as in successor. Nothing happens if the job is running: then the row count is 0. A schedule that waits stays
-- paused if it is, under any rule.
INSERT INTO jobs (
    id, task, queue, priority, ready, due_at, offset_at, created_at, origin, run_count, failure_count, expires_at, rule,
    options, payload, unique_key, payload_ref, status, fence, attempt
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'scheduled', 0, 0)
ON CONFLICT (id) DO UPDATE SET
    status = 'scheduled', fence = jobs.fence + 1, attempt = 0, crashes = 0, owner = NULL,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, error = NULL, is_dead = 0, progress = NULL,
    unique_key = excluded.unique_key, expires_at = excluded.expires_at, is_kept = 0, cause = NULL,
    blockers = jobs.is_paused AND jobs.status = 'scheduled' AND excluded.rule IS NOT NULL, is_parked = 0, parked = NULL,
    is_paused = jobs.is_paused AND jobs.status = 'scheduled' AND excluded.rule IS NOT NULL,
    task = excluded.task, queue = excluded.queue, priority = excluded.priority, ready = excluded.ready,
    due_at = excluded.due_at, offset_at = excluded.offset_at, created_at = excluded.created_at,
    origin = excluded.origin, run_count = excluded.run_count, failure_count = excluded.failure_count,
    rule = excluded.rule, options = excluded.options, payload = excluded.payload, payload_ref = excluded.payload_ref,
    result_ref = NULL
WHERE jobs.status <> 'running'

-- name: drop_successor
DELETE FROM successors WHERE id = ?

-- name: successor
INSERT INTO successors (
    id, task, queue, priority, ready, due_at, offset_at, created_at, origin, run_count, failure_count, expires_at, rule,
    options, payload, unique_key, payload_ref
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: mark_successor
UPDATE jobs SET has_successor = 1 WHERE id = ? AND status = 'running'

-- name: reschedule
-- With the fence goes its place at a gate: it may meet another one at its new time. Parameters: due_at twice, now, id.
UPDATE jobs SET due_at = ?, ready = ? <= ?, fence = fence + 1,
    blockers = blockers - EXISTS (SELECT 1 FROM limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence)
WHERE id = ? AND status = 'scheduled'

-- name: delete
DELETE FROM jobs WHERE id IN ({ids}) AND status <> 'running'

-- name: retry
-- One at a time: the first of two with one key takes it.
UPDATE jobs SET
    status = 'scheduled', ready = 1, due_at = ?, fence = fence + 1, attempt = 0, crashes = 0, failure_count = 0,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, result_ref = NULL, error = NULL, is_dead = 0,
    progress = NULL, expires_at = NULL, is_kept = 0, blockers = 0, is_paused = 0, parked = NULL
WHERE id = ? AND status IN ('failed', 'timeout', 'permanently_failed') AND NOT EXISTS (
    SELECT 1 FROM jobs AS other
    WHERE other.unique_key = jobs.unique_key AND other.unique_key IS NOT NULL
        AND other.status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')
)

-- name: unpark
UPDATE jobs SET
    is_parked = 0, parked = NULL, blockers = blockers - 1, ready = 1, due_at = ?, fence = fence + 1, error = NULL
WHERE id = ? AND is_parked = 1

-- name: purgeable
-- How many of the first jobs that the janitor may delete there are, and which of them must stay for another one's sake:
-- with one job that wants them. What is behind a barrier is looked for once, not for each job before it.
WITH
purgeable AS MATERIALIZED (
    SELECT seq, id, status FROM jobs
    WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at <= ? ORDER BY delete_at, seq LIMIT ?
),
behind AS MATERIALIZED (
    SELECT barrier, (
        SELECT child.seq FROM dependencies CROSS JOIN jobs AS child ON child.seq = dependencies.child
        WHERE dependencies.parent = barrier AND {needing}
        LIMIT 1
    ) AS blocking_child
    FROM (
        SELECT DISTINCT dependencies.child AS barrier
        FROM purgeable CROSS JOIN dependencies ON dependencies.parent = purgeable.seq
        WHERE dependencies.child < 0
    )
)
SELECT count(*), CAST(json_group_array(json_array(id, blocking_child)) FILTER (WHERE blocking_child IS NOT NULL) AS BLOB) FROM (
    SELECT id, CASE WHEN status IN ('success', 'cancelled') THEN ifnull(
        (
            SELECT child.seq FROM dependencies CROSS JOIN jobs AS child ON child.seq = dependencies.child
            WHERE dependencies.parent = purgeable.seq AND {needing}
            LIMIT 1
        ),
        (
            SELECT behind.blocking_child FROM dependencies CROSS JOIN behind ON behind.barrier = dependencies.child
            WHERE dependencies.parent = purgeable.seq AND dependencies.child < 0 AND behind.blocking_child IS NOT NULL
            LIMIT 1
        )
    ) END AS blocking_child
    FROM purgeable
)

-- name: purgeable_parts
-- How many parts the large values of each of the first jobs have that the janitor may delete.
SELECT CAST(json_group_array(ifnull(payload_ref & 1048575, 0) + ifnull(result_ref & 1048575, 0)) AS BLOB) FROM (
    SELECT payload_ref, result_ref FROM jobs
    WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at <= ? ORDER BY delete_at, seq LIMIT ?
)

-- name: purge_messages
-- Some of the large messages of the first jobs that the janitor may delete. The length of a blob is read without it.
DELETE FROM messages WHERE (job_id, number) IN (
    SELECT messages.job_id, messages.number FROM (
        SELECT id FROM jobs WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at <= ? ORDER BY delete_at, seq LIMIT ?
    ) AS purgeable
    CROSS JOIN messages ON messages.job_id = purgeable.id
    WHERE length(messages.data) > ? LIMIT ?
)

-- name: keep_for_child
UPDATE jobs SET is_kept = 1 WHERE id IN ({ids})

-- name: mark_children_of_kept
UPDATE jobs SET has_kept = 1 WHERE seq IN ({ids}) AND has_kept = 0

-- name: mark_causes_of_kept
-- What the children were cancelled for: the end of that ends their need, too.
UPDATE jobs SET has_kept = 1 WHERE has_kept = 0 AND seq IN (
    SELECT child.cause FROM jobs AS child WHERE child.seq IN ({ids}) AND child.cause IS NOT NULL
)

-- name: purge
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at <= ? ORDER BY delete_at, seq LIMIT ?
)

-- name: trim
-- The first parameter is how many lines a schedule keeps. The newest one that is too many is that many steps of the
-- index away from the newest of all, and goes with those before it; where there is none, NULL is not greater than
-- anything. The index is named, because the planner has no statistics, and would read all jobs for the sake of the
-- order.
DELETE FROM attempts WHERE seq IN (
    SELECT attempts.seq FROM jobs INDEXED BY jobs_schedules
    CROSS JOIN attempts ON attempts.job_id = jobs.id AND attempts.seq <= (
        SELECT kept.seq FROM attempts AS kept WHERE kept.job_id = jobs.id ORDER BY kept.seq DESC LIMIT 1 OFFSET ?
    )
    WHERE jobs.rule IS NOT NULL
    ORDER BY jobs.id, jobs.seq, attempts.seq
    LIMIT ?
)

-- name: trim_messages
-- The numbers of a job's messages have no gaps, so what is too old is known by its number. The newest message always
-- stays: the next one is numbered after it, and a reader that goes on from a number must not see that number again.
DELETE FROM messages WHERE (job_id, number) IN (
    SELECT messages.job_id, messages.number FROM jobs INDEXED BY jobs_schedules
    CROSS JOIN messages ON messages.job_id = jobs.id AND messages.number <= (
        SELECT max(number) FROM messages AS kept WHERE kept.job_id = jobs.id
    ) - max(?, 1)
    WHERE jobs.rule IS NOT NULL
    ORDER BY jobs.id, jobs.seq, messages.number
    LIMIT ?
)

-- name: add_history
-- Without its job a line would never be deleted.
INSERT INTO attempts (job_id, attempt, due_at, outcome, error, traceback, started_at, finished_at, owner, code)
SELECT
    column1, column2, column3, column4, nullif(column5, 0), nullif(column6, 0), nullif(column7, ''), column8,
    nullif(column9, ''), nullif(column10, 0)
FROM (VALUES {rows})
WHERE column1 <> 0 AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = column1)


-- Claims --------------------------------------------------------------------------------------------------------------

-- name: claim_columns
CAST(json_group_array(json_array(
    jobs.id, jobs.task, jobs.queue, jobs.priority, jobs.due_at, jobs.created_at, length(jobs.payload), jobs.rule,
    jobs.offset_at, jobs.options, jobs.origin, jobs.fence + 1, jobs.attempt + 1, jobs.run_count, jobs.failure_count,
    jobs.crashes, jobs.expires_at, jobs.rule IS NOT NULL AND ifnull(jobs.error LIKE 'snoozed by its task%', 0),
    jobs.payload_ref, jobs.seq
)) AS BLOB),
CAST(group_concat(jobs.payload, '') AS BLOB)

-- name: passed_over
-- What else a claim has to know, a sum: 1, there are jobs that run apart; 2, parked calls; 4, limits.
SELECT EXISTS (SELECT 1 FROM suspects WHERE is_apart = 1 AND is_held = 0)
    + 2 * EXISTS (SELECT 1 FROM jobs WHERE is_parked = 1) + 4 * EXISTS (SELECT 1 FROM task_limits)

-- name: promote
UPDATE jobs SET ready = 1 WHERE seq IN (
    SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 0 AND blockers = 0 AND due_at <= ?
    ORDER BY due_at, seq LIMIT ?
)

-- name: merged_jobs
-- pairs: every queue and task that has a ready job, found by one jump of the index each, so that jobs which no task here
-- can run cost nothing, however many. merged: the ready jobs of all pairs of a lane in their common order; the recursion
-- is a priority queue that holds one job of each pair and, for each job that it returns, jumps to the next one of that
-- pair. An example, with the priority and the due time of each job, limit 4:
--
--     index jobs_ready, by pair              recursion: queue (first one is returned)      returned
--     ---------------------------------      ----------------------------------------      ------------
--     (default, mail)   9@10  5@20  5@30     [9@10 mail] [7@15 sum]                        9@10 mail
--     (default, sum)    7@15  5@10           [7@15 sum]  [5@20 mail]                       7@15 sum
--     (default, video)  not of this lane     [5@10 sum]  [5@20 mail]                       5@10 sum
--                                            [5@20 mail]           (sum has no more)       5@20 mail
--
-- The cost is that of the pairs plus that of the jobs returned. The next job is looked up one column at a time (same
-- priority and due time; same priority; lower priority), because a comparison of rows of values, (a, b) > (?, ?), uses
-- the index for its first column only. pairs only rise: else a row that is not what the index says of it would be found
-- without end.
pairs (queue, task) AS (
    SELECT * FROM (SELECT queue, task FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 ORDER BY queue, task LIMIT 1)
    UNION ALL
    SELECT later.queue, later.task FROM pairs
    CROSS JOIN jobs AS later ON later.seq = ifnull(
        (SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND queue = pairs.queue AND task > pairs.task
         ORDER BY task LIMIT 1),
        (SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND queue > pairs.queue
         ORDER BY queue, task LIMIT 1)
    ) AND (later.queue > pairs.queue OR (later.queue = pairs.queue AND later.task > pairs.task))
),
merged (seq, queue, task, priority, due_at) AS (
    SELECT head.seq, head.queue, head.task, head.priority, head.due_at FROM pairs
    CROSS JOIN jobs AS head ON head.seq = (
        SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND queue = pairs.queue AND task = pairs.task
        ORDER BY priority DESC, due_at, seq LIMIT 1
    )
    WHERE pairs.task IN ({tasks}) {in_queues} AND pairs.queue NOT IN (SELECT name FROM paused_queues)
    UNION ALL
    SELECT later.seq, later.queue, later.task, later.priority, later.due_at FROM merged
    CROSS JOIN jobs AS later ON later.seq = coalesce(
        (SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND queue = merged.queue AND task = merged.task
         AND priority = merged.priority AND due_at = merged.due_at AND seq > merged.seq
         ORDER BY seq LIMIT 1),
        (SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND queue = merged.queue AND task = merged.task
         AND priority = merged.priority AND due_at > merged.due_at
         ORDER BY due_at, seq LIMIT 1),
        (SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND queue = merged.queue AND task = merged.task
         AND priority < merged.priority
         ORDER BY priority DESC, due_at, seq LIMIT 1)
    )
    ORDER BY 4 DESC, 5, 1
    LIMIT ?
)

-- name: pick
-- The first jobs of one lane.
WITH RECURSIVE
{merged_jobs}
SELECT
    {claim},
    (SELECT min(due_at) FROM jobs WHERE status = 'scheduled' AND ready = 0 AND blockers = 0),
    ({passed_over})
FROM merged CROSS JOIN jobs ON jobs.seq = merged.seq

-- name: batch_candidates
-- What makes batches of the first jobs of one lane. The last parameter: whether their keys are wanted, in the options.
WITH RECURSIVE
{merged_jobs}
SELECT
    CAST(json_group_array(json_array(
        jobs.seq, -jobs.priority, jobs.due_at, jobs.created_at, iif(wanted.options, jobs.options, NULL)
    )) AS BLOB),
    (SELECT min(due_at) FROM jobs WHERE status = 'scheduled' AND ready = 0 AND blockers = 0),
    ({passed_over})
FROM merged CROSS JOIN jobs ON jobs.seq = merged.seq CROSS JOIN (SELECT ? AS options) AS wanted

-- name: picked
-- The answer of pick, for one row.
SELECT {claim} FROM jobs WHERE jobs.seq IN ({ids})

-- name: staged
-- The numbers of the first rows that promote would change.
SELECT CAST(json_group_array(seq) AS BLOB) FROM (
    SELECT seq FROM jobs WHERE status = 'scheduled' AND ready = 0 AND blockers = 0 AND due_at <= ?
    ORDER BY due_at, seq LIMIT ?
)

-- name: promote_one
UPDATE jobs SET ready = 1 WHERE seq = ? AND status = 'scheduled'

-- name: next_due
-- What becomes due next, without these rows. The condition on the time makes the planner use the index.
SELECT min(due_at) FROM (
    SELECT due_at FROM jobs
    WHERE status = 'scheduled' AND ready = 0 AND blockers = 0 AND due_at > -9223372036854775808 AND seq NOT IN ({ids})
    ORDER BY due_at LIMIT 1
)

-- name: fail_damaged
-- What cannot be claimed ends, with the reason, and is kept.
UPDATE jobs SET
    status = 'failed', owner = NULL, error = ?, finished_at = ?, delete_at = NULL, result = NULL, result_ref = NULL,
    is_dead = 1, blockers = 0, is_paused = 0, is_parked = 0
WHERE seq = ? AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: id_of_row
-- One row, also where there is none.
SELECT max(CAST(id AS BLOB)) FROM jobs WHERE seq = ?

-- name: take
-- Only what is still as it was picked, by number and fence, and not paused: meanwhile another process may have been
-- faster. What becomes due between now and a little later starts then. Parameters: owner, now,
-- later, now.
UPDATE jobs SET
    status = 'running', owner = ?, started_at = iif(due_at > ? AND due_at <= ?, due_at, ?), fence = fence + 1,
    attempt = attempt + 1, unique_key = iif(
        substr(jobs.unique_key, 1, 6) = 'start:'
            AND NOT EXISTS (SELECT 1 FROM task_limits WHERE task_limits.task = jobs.task),
        NULL, unique_key
    )
FROM (VALUES {rows}) AS picked
WHERE jobs.seq = picked.column1 AND jobs.fence = picked.column2 - 1 AND jobs.status = 'scheduled' AND jobs.ready = 1
    AND jobs.blockers = 0 AND jobs.queue NOT IN (SELECT name FROM paused_queues)

-- name: taken
-- Of the jobs picked, those that are ours now.
SELECT CAST(json_group_array(jobs.seq) AS BLOB) FROM (VALUES {rows}) AS picked
CROSS JOIN jobs ON jobs.seq = picked.column1 AND jobs.fence = picked.column2
WHERE jobs.status = 'running' AND jobs.owner = ?


-- Suspects ------------------------------------------------------------------------------------------------------------
-- A job that is to run apart has one blocker that is neither a parent nor a pause. It keeps it while it runs, so that it
-- still has it if it is released. A row of suspects may be out of date (its job was cancelled, replaced, tried again by
-- a user); then the job has no such blocker.

-- name: next_apart
-- The death whose suspects are next, and how many it had.
SELECT suspects.death, suspects.company FROM suspects
CROSS JOIN jobs ON jobs.seq = suspects.job
WHERE suspects.is_apart = 1 AND suspects.is_held = 0 AND jobs.status = 'scheduled' AND jobs.blockers = 1 AND jobs.is_paused = 0
    AND jobs.is_parked = 0 AND (jobs.ready = 1 OR jobs.due_at <= ?) AND jobs.task IN ({tasks}) {in_queues}
    AND jobs.queue NOT IN (SELECT name FROM paused_queues)
ORDER BY suspects.death LIMIT 1

-- name: pick_apart
-- Those of its suspects that may run, of one lane.
SELECT {claim} FROM (
    SELECT suspects.job FROM suspects
    CROSS JOIN jobs ON jobs.seq = suspects.job
    WHERE suspects.is_apart = 1 AND suspects.is_held = 0 AND suspects.death = ? AND jobs.status = 'scheduled'
        AND jobs.blockers = 1 AND jobs.is_paused = 0 AND jobs.is_parked = 0 AND (jobs.ready = 1 OR jobs.due_at <= ?) AND jobs.task IN ({tasks}) {in_queues}
        AND jobs.queue NOT IN (SELECT name FROM paused_queues)
    ORDER BY suspects.death, suspects.job LIMIT ?
) AS picked CROSS JOIN jobs ON jobs.seq = picked.job

-- name: take_apart
UPDATE jobs SET
    status = 'running', ready = 1, owner = ?, started_at = ?, fence = fence + 1, attempt = attempt + 1,
    unique_key = iif(
        substr(jobs.unique_key, 1, 6) = 'start:'
            AND NOT EXISTS (SELECT 1 FROM task_limits WHERE task_limits.task = jobs.task),
        NULL, unique_key
    )
WHERE seq IN ({ids})

-- name: add_suspects
INSERT OR REPLACE INTO suspects (job, attempt, deaths, seen, death, company, is_apart, is_held)
SELECT column1, column2, column3, column4, column5, column6, column7, column8 FROM (VALUES {rows}) WHERE column1 <> 0

-- name: set_apart
UPDATE jobs SET blockers = blockers + 1 WHERE seq IN ({ids}) AND status = 'running'

-- name: acquit
-- These have come to the end of an attempt that they ran apart.
UPDATE jobs SET blockers = blockers - 1 WHERE id IN ({ids}) AND status = 'scheduled' AND blockers > is_paused

-- name: forget_suspects
DELETE FROM suspects WHERE job IN (SELECT seq FROM jobs WHERE id IN ({ids}))

-- name: delete_orphaned_suspects
DELETE FROM suspects
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.seq = suspects.job AND jobs.status IN ('scheduled', 'running'))

-- name: add_death
INSERT INTO deaths (at, host, pid, held, begun, is_trial) VALUES (?, ?, ?, ?, ?, ?)

-- name: unexplained
-- Deaths at about this time that no trial explains, and when they were.
SELECT CAST(json_group_array(json_array(id, at)) AS BLOB) FROM deaths WHERE is_trial = 0 AND at BETWEEN ? AND ?

-- name: held_suspects
-- Jobs that wait for their verdict, with the time of the death and all that the job was a suspect of. A death that is
-- long forgotten has no time.
SELECT CAST(json_group_array(json_array(
    jobs.seq, jobs.id, jobs.task, jobs.origin, jobs.crashes, deaths.at, json(suspects.seen)
)) AS BLOB)
FROM suspects
CROSS JOIN jobs ON jobs.seq = suspects.job
LEFT JOIN deaths ON deaths.id = suspects.death
WHERE suspects.is_held = 1 AND jobs.status = 'scheduled' AND jobs.attempt = suspects.attempt
    AND jobs.blockers > jobs.is_paused + jobs.is_parked

-- name: try_again
-- The last crash of these proved nothing.
UPDATE suspects SET is_held = 0 WHERE job IN ({ids})

-- name: uncount_crash
UPDATE jobs SET crashes = crashes - 1 WHERE seq IN ({ids}) AND crashes > 0

-- name: delete_old_deaths
-- The newest thousand stay.
DELETE FROM deaths WHERE id <= ? - 1000


-- Parked calls --------------------------------------------------------------------------------------------------------
-- A job whose call did not fit the code of its claimant has one blocker more until it is claimed by other code.

-- name: pick_parked
-- Those of one lane that wait for nothing else, and that were not tried by the code of the first parameter. What was
-- written by hand and cannot be read says nothing about code. Such jobs are few, so that they are looked at each.
SELECT {claim} FROM (
    SELECT seq FROM jobs WHERE is_parked = 1 AND blockers = 1 AND status = 'scheduled'
        AND NOT CASE WHEN json_valid(parked) THEN EXISTS (
            SELECT 1 FROM json_each(parked, '$.codes') WHERE json_each.value = ?
        ) ELSE 0 END
        AND (ready = 1 OR due_at <= ?) AND jobs.task IN ({tasks}) {in_queues}
        AND queue NOT IN (SELECT name FROM paused_queues)
    ORDER BY priority DESC, due_at, seq LIMIT ?
) AS picked CROSS JOIN jobs ON jobs.seq = picked.seq

-- name: take_parked
UPDATE jobs SET
    status = 'running', ready = 1, owner = ?, started_at = ?, fence = fence + 1, attempt = attempt + 1, is_parked = 0,
    blockers = blockers - 1, unique_key = iif(
        substr(jobs.unique_key, 1, 6) = 'start:'
            AND NOT EXISTS (SELECT 1 FROM task_limits WHERE task_limits.task = jobs.task),
        NULL, unique_key
    )
WHERE seq IN ({ids})

-- name: parked_before
-- What is known of the code that these jobs did not fit.
SELECT CAST(json_group_array(json_array(id, parked)) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND parked IS NOT NULL

-- name: park
UPDATE jobs SET is_parked = 1, parked = ?, blockers = blockers + 1
WHERE id = ? AND status = 'scheduled' AND is_parked = 0

-- name: parked_calls
SELECT CAST(json_group_array(json_array(id, task, queue, parked)) AS BLOB) FROM jobs INDEXED BY jobs_parked
WHERE is_parked = 1 AND (? IS NULL OR queue IN (SELECT value FROM json_each(?)))


-- Settlements ---------------------------------------------------------------------------------------------------------

-- name: settle
-- All or nothing, so that it can be a transaction by itself: claim_lost() raises an error if one of the claims does not
-- hold. So does {if_plain} where something is pending for a job: a replacement, a cancel, others that depend on it.
UPDATE jobs SET
    status = v.column1, ready = v.column2, due_at = v.column3, offset_at = nullif(v.column4, ''), attempt = v.column5,
    run_count = v.column6, failure_count = v.column7, result = nullif(v.column8, ''), error = nullif(v.column9, 0),
    finished_at = nullif(v.column10, ''), delete_at = nullif(v.column11, ''), is_dead = v.column12, owner = NULL,
    crashes = CASE v.column5 WHEN 0 THEN 0 ELSE crashes + v.column13 END
FROM (VALUES {rows}) AS v
WHERE jobs.seq = CASE WHEN v.column14 <> 0 THEN ifnull(
    (SELECT held.seq FROM jobs AS held
     WHERE held.id = v.column14 AND held.owner = v.column15 AND held.fence = v.column16 AND held.status = 'running'
        {if_plain}),
    claim_lost()
) END

-- name: settle_success
-- settle, of successes that are the end of their jobs: half as much to bind.
UPDATE jobs SET
    status = 'success', ready = 0, due_at = v.column1, offset_at = NULL, attempt = v.column2, run_count = 0,
    failure_count = 0, result = v.column3, error = NULL, finished_at = v.column4, delete_at = nullif(v.column5, ''),
    is_dead = 0, owner = NULL
FROM (VALUES {rows}) AS v
WHERE jobs.seq = CASE WHEN v.column6 <> 0 THEN ifnull(
    (SELECT held.seq FROM jobs AS held
     WHERE held.id = v.column6 AND held.owner = v.column7 AND held.fence = v.column8 AND held.status = 'running'
        {if_plain}),
    claim_lost()
) END

-- name: valid_claims
-- Of these claims (id, owner, fence), those that hold, with what is pending for them.
SELECT CAST(json_group_array(json_array(
    held.id, held.owner, held.fence, held.has_successor, held.has_cancel, held.has_dependents OR held.has_kept,
    held.blockers, held.is_paused, held.result_ref IS NOT NULL, held.attempt, held.run_count
)) AS BLOB) FROM (VALUES {rows}) AS v
CROSS JOIN jobs AS held
    ON held.id = v.column1 AND held.owner = v.column2 AND held.fence = v.column3 AND held.status = 'running'

-- name: drop_cancel
UPDATE jobs SET has_cancel = 0 WHERE id IN ({ids})

-- name: become_successor
-- The fence is raised: it is another job now.
UPDATE jobs SET
    status = 'scheduled', owner = NULL, fence = fence + 1, attempt = 0, crashes = 0, has_successor = 0, has_cancel = 0,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, error = NULL, is_dead = 0, progress = NULL,
    unique_key = s.unique_key, expires_at = s.expires_at, blockers = jobs.is_paused AND s.rule IS NOT NULL, parked = NULL,
    is_paused = jobs.is_paused AND s.rule IS NOT NULL,
    task = s.task, queue = s.queue, priority = s.priority, ready = s.ready, due_at = s.due_at,
    offset_at = s.offset_at, created_at = s.created_at, origin = s.origin, run_count = s.run_count,
    failure_count = s.failure_count, rule = s.rule, options = s.options, payload = s.payload,
    payload_ref = s.payload_ref, result_ref = NULL
FROM successors AS s
WHERE s.id = jobs.id AND jobs.id IN ({ids}) AND jobs.has_successor = 1

-- name: become_cancelled
UPDATE jobs SET
    status = 'cancelled', owner = NULL, has_cancel = 0, blockers = 0, is_paused = 0,
    error = c.reason, finished_at = c.requested_at, delete_at = c.delete_at, result = NULL,
    result_ref = NULL
FROM cancels AS c
WHERE c.id = jobs.id AND jobs.id IN ({ids}) AND jobs.has_cancel = 1

-- name: delete_orphaned_successors
DELETE FROM successors
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = successors.id AND jobs.has_successor = 1)

-- name: delete_orphaned_cancels
DELETE FROM cancels WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = cancels.id AND jobs.has_cancel = 1)


-- Cancels -------------------------------------------------------------------------------------------------------------

-- name: statuses
SELECT CAST(json_group_array(json_array(id, status)) AS BLOB) FROM jobs WHERE id IN ({ids})

-- name: cancel_waiting
UPDATE jobs SET
    status = 'cancelled', error = ?, finished_at = ?, delete_at = ?, result = NULL, result_ref = NULL, blockers = 0,
    is_paused = 0, is_parked = 0
WHERE id IN ({ids}) AND status = 'scheduled'

-- name: request_cancel
INSERT OR REPLACE INTO cancels (id, reason, requested_at, delete_at)
SELECT id, ?, ?, ? FROM jobs WHERE id IN ({ids}) AND status = 'running'

-- name: mark_cancel
UPDATE jobs SET has_cancel = 1, has_successor = 0 WHERE id IN ({ids}) AND status = 'running'

-- name: cancel_requests
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs WHERE has_cancel = 1 AND owner = ? AND status = 'running'

-- name: expired
SELECT CAST(json_group_array(json_array(id, task, origin, queue, attempt)) AS BLOB) FROM (
    SELECT id, task, origin, queue, attempt FROM jobs
    WHERE expires_at IS NOT NULL AND status = 'scheduled' AND expires_at <= ? ORDER BY expires_at, seq LIMIT ?
)


-- Jobs that depend on others ------------------------------------------------------------------------------------------

-- name: parent_states
-- What became of these jobs, if anything, and what they were cancelled for.
SELECT CAST(json_group_array(json_array(
    jobs.id, jobs.seq, jobs.task, jobs.status, jobs.error, jobs.delete_at, jobs.rule IS NOT NULL,
    jobs.cause, other.id, other.task, other.status, other.error
)) AS BLOB) FROM jobs LEFT JOIN jobs AS other ON other.seq = jobs.cause
WHERE jobs.id IN ({ids})

-- name: parent_states_by_seq
-- The same, by number.
SELECT CAST(json_group_array(json_array(
    jobs.id, jobs.seq, jobs.task, jobs.status, jobs.error, jobs.delete_at, jobs.rule IS NOT NULL,
    jobs.cause, other.id, other.task, other.status, other.error
)) AS BLOB) FROM jobs LEFT JOIN jobs AS other ON other.seq = jobs.cause
WHERE jobs.seq IN ({ids})

-- name: seqs
SELECT CAST(json_group_array(json_array(id, seq)) AS BLOB) FROM jobs WHERE id IN ({ids})

-- name: add_edges
INSERT INTO dependencies (parent, parent_id, child, is_open)
SELECT column1, column2, column3, column4 FROM (VALUES {rows}) WHERE column1 <> 0

-- name: add_barrier
INSERT INTO barriers (waiting) VALUES (?)

-- name: block
UPDATE jobs SET blockers = v.column2 FROM (VALUES {rows}) AS v WHERE v.column1 <> 0 AND jobs.seq = v.column1

-- name: mark_parents
UPDATE jobs SET has_dependents = 1 WHERE seq IN ({ids}) AND has_dependents = 0

-- name: linked
-- Of these jobs, those whose end concerns others.
SELECT CAST(json_group_array(json_array(
    seq, id, task, status, error, finished_at, delete_at, has_dependents, has_kept
)) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND (has_dependents = 1 OR has_kept = 1)

-- name: count_down
-- These jobs have succeeded: the barriers behind them wait for so many less.
UPDATE barriers SET waiting = barriers.waiting - ended.number, ended_at = max(ifnull(barriers.ended_at, ended.at), ended.at)
FROM (
    SELECT dependencies.child, count(*) AS number, max(parents.finished_at) AS at
    FROM dependencies CROSS JOIN jobs AS parents ON parents.seq = dependencies.parent
    WHERE dependencies.parent IN ({ids}) AND dependencies.is_open = 1 AND dependencies.child < 0
    GROUP BY dependencies.child
) AS ended
WHERE barriers.seq = -ended.child

-- name: opened_barriers
-- The barriers behind these jobs that wait for nothing any more.
SELECT CAST(json_group_array(barrier) AS BLOB) FROM (
    SELECT DISTINCT dependencies.child AS barrier
    FROM dependencies CROSS JOIN barriers ON barriers.seq = -dependencies.child
    WHERE dependencies.parent IN ({ids}) AND dependencies.is_open = 1 AND dependencies.child < 0
        AND barriers.waiting <= 0
)

-- name: unblock
-- These jobs have succeeded, and these barriers are open. What was ready once stays ready; the rest is if it is due when
-- the last of them ends.
UPDATE jobs SET blockers = blockers - freed.number, ready = ready OR due_at <= freed.at
FROM (
    SELECT child, count(*) AS number, max(at) AS at FROM (
        SELECT dependencies.child, CASE
            WHEN dependencies.parent > 0 THEN (SELECT finished_at FROM jobs AS parents WHERE parents.seq = dependencies.parent)
            ELSE (SELECT ended_at FROM barriers WHERE barriers.seq = -dependencies.parent)
        END AS at
        FROM dependencies
        WHERE dependencies.parent IN ({ids}) AND dependencies.is_open = 1 AND dependencies.child > 0
    ) GROUP BY child
) AS freed
WHERE jobs.seq = freed.child AND jobs.status = 'scheduled'

-- name: freeing
-- Of these jobs and barriers, those on which a job depends that waits for nothing else any more.
SELECT CAST(json_group_array(column1) AS BLOB) FROM (VALUES {rows})
WHERE EXISTS (
    SELECT 1 FROM dependencies CROSS JOIN jobs AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = column1 AND dependencies.is_open = 1
        AND child.status = 'scheduled' AND child.blockers = 0
)

-- name: parents_of_barriers
SELECT CAST(json_group_array(parent) AS BLOB) FROM dependencies WHERE child IN ({ids}) AND is_open = 1

-- name: dependents
-- What depends on a job, directly or not, nearest first, with the parent that is the reason: the first of those that
-- fall. UNION: each comes once, however many ways lead to it. Barriers are passed. The job itself comes first of all.
WITH RECURSIVE dependents (seq) AS (
    SELECT ?
    UNION
    SELECT dependencies.child FROM dependents
    CROSS JOIN dependencies ON dependencies.parent = dependents.seq AND dependencies.is_open = 1
    WHERE dependencies.child < 0
        OR EXISTS (SELECT 1 FROM jobs AS child WHERE child.seq = dependencies.child AND child.status = 'scheduled')
)
SELECT CAST(json_group_array(json_array(dependents.seq, jobs.id, reason.parent, reason.parent_id)) AS BLOB)
FROM dependents
LEFT JOIN jobs ON jobs.seq = dependents.seq
LEFT JOIN dependencies AS reason ON reason.seq = (
    SELECT min(dependencies.seq) FROM dependencies
    WHERE child = dependents.seq AND is_open = 1 AND parent IN (SELECT seq FROM dependents)
)

-- name: cancel_dependents
UPDATE jobs SET
    status = 'cancelled', error = v.column2, finished_at = v.column3, delete_at = nullif(v.column4, ''), result = NULL,
    result_ref = NULL, blockers = 0, is_paused = 0, is_parked = 0, cause = v.column5
FROM (VALUES {rows}) AS v
WHERE v.column1 <> 0 AND jobs.seq = v.column1 AND jobs.status = 'scheduled'

-- name: close_dependencies
UPDATE dependencies SET is_open = 0 WHERE parent IN ({ids}) AND is_open = 1

-- name: unmark_parents
UPDATE jobs SET has_dependents = 0 WHERE seq IN ({ids}) AND has_dependents = 1

-- name: unkeep
-- What the janitor left for the sake of these jobs, or of what fell with them, it may look at again.
WITH RECURSIVE
ended (seq) AS (SELECT seq FROM jobs WHERE seq IN ({ids}) AND has_kept = 1),
wanting (seq) AS (
    SELECT seq FROM ended
    UNION SELECT child.seq FROM ended CROSS JOIN jobs AS child ON child.cause = ended.seq AND child.cause IS NOT NULL
),
before (node) AS (
    SELECT dependencies.parent FROM wanting CROSS JOIN dependencies ON dependencies.child = wanting.seq
    UNION
    SELECT dependencies.parent FROM before CROSS JOIN dependencies ON dependencies.child = before.node
    WHERE before.node < 0
)
UPDATE jobs SET is_kept = 0 WHERE is_kept = 1 AND seq IN (SELECT node FROM before)

-- name: unmark_children_of_kept
UPDATE jobs SET has_kept = 0 WHERE seq IN ({ids}) AND has_kept = 1

-- name: cancelled_for
-- What was cancelled for these jobs.
SELECT CAST(json_group_array(json_array(child.seq, child.id, child.unique_key)) AS BLOB)
FROM jobs AS other CROSS JOIN jobs AS child ON child.cause = other.seq AND child.cause IS NOT NULL
WHERE other.id IN ({ids}) AND child.status = 'cancelled'

-- name: edges_into
-- The dependencies of jobs and barriers.
SELECT CAST(json_group_array(json_array(parent, child)) AS BLOB) FROM dependencies WHERE child IN ({ids})

-- name: revive
-- As after retry, but for the due time: these have never run. The third column is now.
UPDATE jobs SET
    status = 'scheduled', ready = ready OR due_at <= v.column3, fence = fence + 1, attempt = 0, crashes = 0,
    started_at = NULL, finished_at = NULL, delete_at = NULL, result = NULL, result_ref = NULL, error = NULL, is_dead = 0,
    progress = NULL, expires_at = NULL, is_kept = 0, blockers = v.column2, is_paused = 0, cause = NULL
FROM (VALUES {rows}) AS v
WHERE v.column1 <> 0 AND jobs.seq = v.column1 AND jobs.status = 'cancelled'

-- name: close_barriers
UPDATE barriers SET waiting = v.column2 FROM (VALUES {rows}) AS v WHERE v.column1 <> 0 AND barriers.seq = v.column1

-- name: reopen
UPDATE dependencies SET is_open = 1 FROM (VALUES {rows}) AS v
WHERE v.column1 <> 0 AND dependencies.child = v.column2 AND dependencies.parent = v.column1

-- name: change_cause
UPDATE jobs SET cause = v.column2, error = v.column3 FROM (VALUES {rows}) AS v
WHERE v.column1 <> 0 AND jobs.seq = v.column1

-- name: forget_cause
-- These jobs are others now: what was cancelled for them stays so.
UPDATE jobs SET cause = NULL WHERE cause IN (SELECT seq FROM jobs WHERE id IN ({ids}))

-- name: forget_parents
DELETE FROM dependencies WHERE child IN (SELECT seq FROM jobs WHERE id IN ({ids}))


-- Pauses --------------------------------------------------------------------------------------------------------------

-- name: pausable
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND rule IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: pause
UPDATE jobs SET is_paused = 1, blockers = blockers + 1 WHERE id IN ({ids}) AND is_paused = 0

-- name: clear_blockers
UPDATE jobs SET is_paused = 0, blockers = 0
WHERE id IN ({ids}) AND blockers > 0
    AND status IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: paused
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND is_paused = 1
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: resume
UPDATE jobs SET is_paused = 0, blockers = blockers - 1, ready = ready OR due_at <= ?
WHERE id IN ({ids}) AND is_paused = 1

-- name: pause_queue
INSERT OR IGNORE INTO paused_queues (name) VALUES (?)

-- name: resume_queue
DELETE FROM paused_queues WHERE name = ?

-- name: paused_queues
SELECT CAST(json_group_array(name) AS BLOB) FROM (SELECT name FROM paused_queues ORDER BY name)

-- name: oldest_ready
-- For a probe. Parameters: the queues as a list in JSON, twice; NULL: all. min() decides which row the other columns are
-- of, and all of them stand in the index.
SELECT jobs.id, jobs.task, jobs.queue, oldest.due_at
FROM (
    SELECT seq, min(due_at) AS due_at FROM jobs INDEXED BY jobs_ready
    WHERE status = 'scheduled' AND ready = 1 AND blockers = 0
        AND queue NOT IN (SELECT name FROM paused_queues)
        AND (? IS NULL OR queue IN (SELECT value FROM json_each(?)))
) AS oldest JOIN jobs ON jobs.seq = oldest.seq

-- name: oldest_overdue
-- What has become due, and was not considered by a claim yet. Parameters: now, and the queues as above.
SELECT id, task, queue, due_at FROM jobs INDEXED BY jobs_staged
WHERE status = 'scheduled' AND ready = 0 AND blockers = 0 AND due_at <= ?
    AND queue NOT IN (SELECT name FROM paused_queues)
    AND (? IS NULL OR queue IN (SELECT value FROM json_each(?)))
ORDER BY due_at LIMIT 1

-- name: stopped_schedules
SELECT CAST(json_group_array(json_array(id, task, error, finished_at)) AS BLOB) FROM jobs INDEXED BY jobs_schedules
WHERE rule IS NOT NULL AND is_dead = 1 AND finished_at IS NOT NULL
    -- One that has had all its runs was not stopped; see is_stopped in cron.py.
    AND NOT CASE WHEN json_valid(rule) THEN ifnull(json_extract(rule, '$.max_runs'), -1) BETWEEN 0 AND run_count ELSE 0 END


-- Reports -------------------------------------------------------------------------------------------------------------

-- name: reporting
-- Of these claims (id, owner, fence), those that hold, with the attempt and the number of the last message.
SELECT CAST(json_group_array(json_array(
    held.id, held.owner, held.fence, held.attempt,
    ifnull((SELECT max(number) FROM messages WHERE job_id = held.id), 0)
)) AS BLOB) FROM (VALUES {rows}) AS v
CROSS JOIN jobs AS held
    ON held.id = v.column1 AND held.owner = v.column2 AND held.fence = v.column3 AND held.status = 'running'

-- name: progress
UPDATE jobs SET progress = v.column2 FROM (VALUES {rows}) AS v WHERE v.column1 <> 0 AND jobs.id = v.column1

-- name: publish
INSERT INTO messages (job_id, number, kind, attempt, at, level, data)
SELECT column1, column2, column3, column4, column5, nullif(column6, 0), column7 FROM (VALUES {rows})
WHERE column1 <> 0

-- name: messages
SELECT
    CAST(json_group_array(json_array(
        number, kind, attempt, at, length(CAST(data AS BLOB)), level, typeof(data) = 'text'
    )) AS BLOB),
    CAST(group_concat(CAST(data AS BLOB), '') AS BLOB)
FROM (SELECT * FROM messages WHERE job_id = ? AND number > ? AND kind IN (?, ?) ORDER BY number LIMIT ?)

-- name: message_sizes
-- How long the data of each message of such a page is. SQLite reads the length of a blob without the blob, but only where
-- length() and typeof() are applied to the column of the table: outside of the subquery each page would read all the data.
SELECT CAST(json_group_array(size) AS BLOB)
FROM (
    SELECT CASE typeof(data) WHEN 'blob' THEN length(data) ELSE length(CAST(data AS BLOB)) END AS size
    FROM messages WHERE job_id = ? AND number > ? AND kind IN (?, ?) ORDER BY number LIMIT ?
)


-- Owners --------------------------------------------------------------------------------------------------------------

-- name: register
-- Without an id, a new one.
INSERT INTO owners (id, host, pid, started_at, seen_at, role, queues, tasks, concurrency, lock, bell, process)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: heartbeat
UPDATE owners SET seen_at = ? WHERE id = ?

-- name: renew_lock
UPDATE owners SET lock = ?, process = ? WHERE id = ?

-- name: leave
UPDATE owners SET is_leaving = 1 WHERE id = ?

-- name: owners
-- And whether a suspect waits for its verdict.
SELECT CAST(json_group_array(json_array(
    id, host, pid, started_at, seen_at, role, json(queues), json(tasks), concurrency, lock, bell, process, is_leaving
)) AS BLOB), EXISTS (SELECT 1 FROM suspects WHERE is_held = 1) FROM owners

-- name: addresses
SELECT CAST(json_group_array(json_array(id, role, bell)) AS BLOB) FROM owners WHERE bell IS NOT NULL

-- name: known_owners
SELECT CAST(json_group_array(id) AS BLOB) FROM owners WHERE id IN ({ids})

-- name: deregister
DELETE FROM owners WHERE id IN ({ids})

-- name: held_by_owners
-- What these owners hold, with what is known of it as a suspect.
SELECT CAST(json_group_array(json_array(
    seq, id, task, origin, owner, jobs.attempt, crashes, has_successor, has_cancel, blockers > is_paused,
    suspects.attempt, suspects.deaths, json(suspects.seen), suspects.company, suspects.is_apart, suspects.is_held
)) AS BLOB)
FROM jobs LEFT JOIN suspects ON suspects.job = jobs.seq
WHERE status = 'running' AND owner IN ({ids})

-- name: record_lost
INSERT INTO attempts (job_id, attempt, due_at, outcome, error, started_at, finished_at, owner)
SELECT id, attempt, due_at, 'lost', ?, started_at, ?, owner FROM jobs WHERE seq IN ({ids})

-- name: record_released
INSERT INTO attempts (job_id, attempt, due_at, outcome, started_at, finished_at, owner)
SELECT id, attempt, due_at, 'released', started_at, ?, owner FROM jobs
WHERE status = 'running' AND owner IN ({ids})

-- name: uncount_attempt
UPDATE jobs SET attempt = attempt - 1 WHERE status = 'running' AND owner IN ({ids}) AND attempt > 0

-- name: count_crash
UPDATE jobs SET crashes = crashes + 1 WHERE seq IN ({ids})

-- name: uncount_unbegun
-- These were claimed and had not begun.
UPDATE jobs SET attempt = attempt - 1 WHERE seq IN ({ids})

-- name: quarantine
UPDATE jobs SET
    status = 'failed', owner = NULL, error = ?, finished_at = ?, delete_at = CASE WHEN rule IS NULL THEN ? END,
    result = NULL, result_ref = NULL, is_dead = 1, blockers = 0, is_paused = 0
WHERE id = ?

-- name: release
UPDATE jobs SET status = 'scheduled', ready = 1, owner = NULL
WHERE status = 'running' AND owner IN ({ids})


-- Reading -------------------------------------------------------------------------------------------------------------

-- name: record_columns
CAST(json_group_array(json_array(
    id, task, queue, priority, status, ready, due_at, created_at, length(payload), rule, offset_at, options, origin,
    owner, fence, attempt, started_at, finished_at, delete_at, length(result), error, run_count, failure_count, crashes,
    has_cancel, has_successor, unique_key, expires_at, is_dead,
    -- A barrier is one blocker in the row, and as many parents as it waits for.
    blockers + CASE WHEN blockers > 0 AND status = 'scheduled' THEN ifnull((
        SELECT ahead.waiting - 1 FROM (
            SELECT dependencies.child, barriers.waiting
            FROM dependencies CROSS JOIN barriers ON barriers.seq = -dependencies.parent
            WHERE dependencies.is_open = 1
        ) AS ahead WHERE ahead.child = seq
    ), 0) ELSE 0 END,
    -- JSON of SQLite has fewer digits than a number.
    CASE WHEN progress IS NOT NULL THEN printf('%!.17g', progress) END,
    blockers > is_paused + is_parked
        AND EXISTS (SELECT 1 FROM suspects WHERE suspects.job = seq AND suspects.is_apart = 1),
    CASE WHEN is_parked THEN ifnull(parked, '') END,
    blockers > is_paused + is_parked AND status = 'scheduled' AND EXISTS (
        SELECT 1 FROM (SELECT limit_waiters.seq AS job, limit_waiters.fence AS its FROM limit_waiters) AS waiter
        WHERE waiter.job = seq AND waiter.its = fence
    ),
    payload_ref, result_ref
)) AS BLOB),
CAST(group_concat(payload, '') AS BLOB),
CAST(group_concat(result, '') AS BLOB)

-- name: get
SELECT {record} FROM jobs WHERE id IN ({ids})

-- name: find
SELECT {record} FROM (SELECT * FROM jobs WHERE {filters} ORDER BY {order} LIMIT ?)

-- name: find_live
-- All that has not ended. What waits or runs as it was enqueued, due at once, is in no index of ids: it is sorted, so this
-- is for as many of them as may be. Parameters: the filters, the limit, the filters three times, the limit. The indexes are
-- named, because the planner has no statistics and so does not know how few rows they hold.
SELECT {record} FROM (
    SELECT jobs.* FROM (
        SELECT seq AS number FROM (
            SELECT seq, id FROM (
                SELECT seq, id FROM jobs INDEXED BY jobs_live
                WHERE status IN ('scheduled', 'running') AND (due_at <> created_at OR ready = 0) AND {filters}
                ORDER BY {order} LIMIT ?
            )
            UNION ALL
            SELECT seq, id FROM jobs INDEXED BY jobs_ready
            WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND due_at = created_at AND {filters}
            UNION ALL
            SELECT seq, id FROM jobs INDEXED BY jobs_blocked
            WHERE blockers > 0 AND status = 'scheduled' AND ready = 1 AND due_at = created_at AND {filters}
            UNION ALL
            SELECT seq, id FROM jobs INDEXED BY jobs_running
            WHERE status = 'running' AND ready = 1 AND due_at = created_at AND {filters}
        ) ORDER BY {order} LIMIT ?
    ) AS found CROSS JOIN jobs ON jobs.seq = found.number
)

-- name: find_live_among
-- The same, looked for among the first rows in the order of the list. Parameters: those of {after}, how many rows (-1: all),
-- the filters, the limit.
SELECT {record} FROM (
    SELECT jobs.* FROM (SELECT seq AS number FROM jobs WHERE {after} ORDER BY {order} LIMIT ?) AS walked
    CROSS JOIN jobs ON jobs.seq = walked.number
    WHERE status IN ('scheduled', 'running') AND {filters} LIMIT ?
)

-- name: count_unsorted
-- How many jobs find_live would sort, up to a limit. Parameters: the filters and the limit, twice.
SELECT (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_ready
        WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND {filters} LIMIT ?
    )
) + (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_blocked WHERE blockers > 0 AND status = 'scheduled' AND {filters} LIMIT ?
    )
)

-- name: find_running
-- And a million waiting ones between those that run, which are few enough to be sorted.
SELECT {record} FROM (
    SELECT * FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND {filters} ORDER BY {order} LIMIT ?
)

-- name: find_unsuccessful
-- Of one status, so that the index gives the order.
SELECT {record} FROM (
    SELECT * FROM jobs INDEXED BY jobs_unsuccessful
    WHERE finished_at IS NOT NULL AND status <> 'success' AND {filters} ORDER BY {order} LIMIT ?
)

-- name: count
SELECT CAST(json_group_array(json_array(task, queue, status, is_dead, number)) AS BLOB)
FROM (
    SELECT task, queue, status, is_dead, count(*) AS number FROM jobs WHERE {filters}
    GROUP BY task, queue, status, is_dead
)

-- name: count_running
SELECT CAST(json_group_array(json_array(task, queue, status, is_dead, number)) AS BLOB)
FROM (
    SELECT task, queue, status, is_dead, count(*) AS number FROM jobs INDEXED BY jobs_running
    WHERE status = 'running' AND {filters} GROUP BY task, queue, status, is_dead
)

-- name: count_unsuccessful
SELECT CAST(json_group_array(json_array(task, queue, status, is_dead, number)) AS BLOB)
FROM (
    SELECT task, queue, status, is_dead, count(*) AS number FROM jobs INDEXED BY jobs_unsuccessful
    WHERE finished_at IS NOT NULL AND status <> 'success' AND {filters}
    GROUP BY task, queue, status, is_dead
)

-- name: count_purgeable
-- The parameter is now, twice.
WITH wanted (barrier) AS MATERIALIZED (
    SELECT DISTINCT dependencies.child FROM jobs INDEXED BY jobs_outdated
    CROSS JOIN dependencies ON dependencies.parent = jobs.seq
    WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at <= ? AND dependencies.child < 0 AND EXISTS (
        SELECT 1 FROM dependencies AS behind CROSS JOIN jobs AS child ON child.seq = behind.child
        WHERE behind.parent = dependencies.child AND {needing}
    )
)
SELECT CAST(json_group_array(json_array(task, queue, status, is_dead, number)) AS BLOB)
FROM (
    SELECT task, queue, status, is_dead, count(*) AS number FROM jobs INDEXED BY jobs_outdated
    WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at <= ? AND NOT (
        status IN ('success', 'cancelled') AND (
            EXISTS (
                SELECT 1 FROM dependencies CROSS JOIN jobs AS child ON child.seq = dependencies.child
                WHERE dependencies.parent = jobs.seq AND {needing}
            )
            OR EXISTS (
                SELECT 1 FROM dependencies
                WHERE dependencies.parent = jobs.seq AND dependencies.child IN (SELECT barrier FROM wanted)
            )
        )
    )
    GROUP BY task, queue, status, is_dead
)

-- name: count_live
-- What has not ended, from the indexes that hold it. A queue with a task may come several times: ready, staged, blocked.
SELECT CAST(json_group_array(json_array(task, queue, status, 0, number)) AS BLOB)
FROM (
    SELECT task, queue, 'scheduled' AS status, count(*) AS number FROM jobs
    WHERE status = 'scheduled' AND ready = 1 AND blockers = 0 AND {filters} GROUP BY queue, task
    UNION ALL
    SELECT task, queue, 'scheduled', count(*) FROM jobs
    WHERE status = 'scheduled' AND ready = 0 AND blockers = 0 AND {filters} GROUP BY queue, task
    UNION ALL
    SELECT task, queue, 'scheduled', count(*) FROM jobs INDEXED BY jobs_blocked
    WHERE blockers > 0 AND status = 'scheduled' AND {filters} GROUP BY queue, task
    UNION ALL
    SELECT task, queue, 'running', count(*) FROM jobs WHERE status = 'running' AND {filters} GROUP BY queue, task
)

-- name: has_metadata
-- A condition on a row: among its metadata is a pair of this key, of one of these types of JSON, with this value. A row
-- that was written by hand may hold anything.
CASE WHEN json_valid(options) THEN EXISTS (
    SELECT 1 FROM json_each(options, '$.metadata') AS pair
    WHERE pair.key = ? AND pair.type IN (?, ?) AND pair.value IS ?
) ELSE 0 END

-- name: find_unique
SELECT max(id) FROM jobs
WHERE unique_key = ? AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: unfinished_with_key
-- The same as a list.
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs
WHERE unique_key = ? AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: relations
-- One look each: parents, then children. A job has one barrier before it, or none. A parent that was set aside is named by
-- the id that it has now, one that is gone by the one that it had.
WITH
target (seq) AS MATERIALIZED (SELECT seq FROM jobs WHERE id = ?),
ahead (node) AS (
    SELECT seq FROM target
    UNION ALL SELECT dependencies.parent FROM target CROSS JOIN dependencies ON dependencies.child = target.seq
    WHERE dependencies.parent < 0
),
behind (node) AS (
    SELECT seq FROM target
    UNION ALL SELECT dependencies.child FROM target CROSS JOIN dependencies ON dependencies.parent = target.seq
    WHERE dependencies.child < 0
)
SELECT
    (SELECT CAST(json_group_array(id) AS BLOB) FROM (
        SELECT ifnull(jobs.id, dependencies.parent_id) AS id
        FROM dependencies LEFT JOIN jobs ON jobs.seq = dependencies.parent
        WHERE dependencies.child IN (SELECT node FROM ahead) AND dependencies.parent > 0
        ORDER BY dependencies.seq
    )),
    (SELECT CAST(json_group_array(id) AS BLOB) FROM (
        SELECT jobs.id FROM dependencies CROSS JOIN jobs ON jobs.seq = dependencies.child
        WHERE dependencies.parent IN (SELECT node FROM behind)
        ORDER BY dependencies.seq
    ))

-- name: parents
-- The rows that a job is bound to, with the ids that they had when it was added.
WITH
target (seq) AS MATERIALIZED (SELECT seq FROM jobs WHERE id = ?),
ahead (node) AS (
    SELECT seq FROM target
    UNION ALL SELECT dependencies.parent FROM target CROSS JOIN dependencies ON dependencies.child = target.seq
    WHERE dependencies.parent < 0
)
SELECT CAST(json_group_array(json_array(parent, parent_id)) AS BLOB) FROM (
    SELECT parent, parent_id FROM dependencies
    WHERE child IN (SELECT node FROM ahead) AND parent > 0 ORDER BY dependencies.seq
)

-- name: kin
-- All that is connected with a job by dependencies, barriers among it; the nearest first.
WITH RECURSIVE kin (node) AS (
    SELECT seq FROM jobs WHERE id = ?
    UNION
    SELECT dependencies.child FROM kin CROSS JOIN dependencies ON dependencies.parent = kin.node
    UNION
    SELECT dependencies.parent FROM kin CROSS JOIN dependencies ON dependencies.child = kin.node
    LIMIT ?
)
SELECT CAST(json_group_array(node) AS BLOB) FROM kin

-- name: relatives
SELECT CAST(json_group_array(json_array(seq, id, task, status, is_dead, substr(error, 1, 300))) AS BLOB)
FROM jobs WHERE seq IN ({ids})

-- name: get_by_seq
SELECT {record}, CAST(json_group_array(seq) AS BLOB) FROM jobs WHERE seq IN ({ids})

-- name: attempts
SELECT CAST(json_group_array(json_array(
    job_id, attempt, due_at, outcome, error, traceback, started_at, finished_at, owner, code
)) AS BLOB)
FROM (SELECT * FROM attempts WHERE job_id = ? ORDER BY seq LIMIT ? OFFSET ?)


-- Changes of the clock ------------------------------------------------------------------------------------------------

-- name: clock_state
-- At first there is no row. What is known of an old file then is when its newest job was made.
SELECT CAST(json_array(json_array(
    ifnull(max(changes), 0),
    ifnull(max(trusted_at), (SELECT created_at FROM jobs WHERE seq = (SELECT max(seq) FROM jobs))),
    max(doubted_at)
)) AS BLOB) FROM clock

-- name: keep_clock_state
INSERT OR REPLACE INTO clock (id, changes, trusted_at, doubted_at) VALUES (1, ?, ?, ?)

-- name: shift_delays
-- Elapsed times that end in the future move by the change (twice); not those that were counted from a time between the
-- other two parameters, which were written after the change. A delay was counted from its offset_at, the wait of a schedule at most from the start of its
-- last run.
UPDATE jobs SET
    due_at = due_at + ?, offset_at = iif(rule IS NULL, offset_at + ?, offset_at), fence = fence + 1
WHERE seq IN (
    SELECT seq FROM jobs INDEXED BY jobs_live
    WHERE status IN ('scheduled', 'running') AND (due_at <> created_at OR ready = 0) AND status = 'scheduled' AND ready = 0
        AND CASE
            WHEN rule IS NULL THEN offset_at
            WHEN attempt > 0 OR due_at > offset_at THEN ifnull(started_at, created_at)
        END NOT BETWEEN ? AND ?
)

-- name: shift_expiries
-- With the fence goes the place at a gate.
UPDATE jobs SET expires_at = expires_at + ?, fence = fence + 1,
    blockers = blockers - EXISTS (SELECT 1 FROM limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence)
WHERE seq IN (
    SELECT seq FROM jobs INDEXED BY jobs_expiring
    WHERE expires_at IS NOT NULL AND status = 'scheduled' AND created_at NOT BETWEEN ? AND ?
        AND CASE WHEN json_valid(options) THEN json_extract(options, '$.expires') IS NOT NULL ELSE 0 END
)

-- name: shift_successors
UPDATE successors SET due_at = due_at + ?, offset_at = offset_at + ?
WHERE rule IS NULL AND ready = 0 AND offset_at NOT BETWEEN ? AND ?

-- name: shift_gates
-- The times of rates. (The number is NEVER of model/limit_gates.py.) Parameters: the change; from which to which time a
-- gate was turned after it.
UPDATE limit_gates SET
    tat = max(tat + v.change, 0),
    closed_until = iif(closed_until = 0, 0, max(closed_until + v.change, 0)),
    opens_at = iif(opens_at IN (0, 4611686018427387904), opens_at, max(opens_at + v.change, 0)),
    turned_at = max(turned_at + v.change, 0)
FROM (SELECT ? AS change, ? AS since, ? AS now) AS v
WHERE name IN (SELECT name FROM limits WHERE kind = 'rate') AND turned_at NOT BETWEEN v.since AND v.now

-- name: waiting_schedules
SELECT CAST(json_group_array(json_array(id, fence, rule, due_at, offset_at, started_at, attempt)) AS BLOB) FROM (
    SELECT id, fence, rule, due_at, offset_at, started_at, attempt FROM jobs INDEXED BY jobs_schedules
    WHERE rule IS NOT NULL AND status = 'scheduled' AND due_at > ? AND id > ? ORDER BY id LIMIT ?
)

-- name: schedules
SELECT CAST(json_group_array(json_array(id, fence, rule, due_at, offset_at, started_at, attempt)) AS BLOB) FROM jobs
WHERE id IN ({ids}) AND rule IS NOT NULL AND status = 'scheduled'

-- name: move_schedules
-- Only what is still as it was seen, by its fence. With that goes its place at a gate.
UPDATE jobs SET due_at = v.column3, offset_at = v.column4, ready = v.column3 <= ?, fence = jobs.fence + 1,
    blockers = blockers - EXISTS (SELECT 1 FROM limit_waiters AS its WHERE its.seq = jobs.seq AND its.fence = jobs.fence)
FROM (VALUES {rows}) AS v
WHERE v.column1 <> 0 AND jobs.id = v.column1 AND jobs.fence = v.column2 AND jobs.status = 'scheduled'

-- name: mend_delays
-- Parameters: now, now, how many of the farthest to look at, and after which time. A clock that was ahead wrote the
-- farthest ones.
UPDATE jobs SET due_at = ? + (due_at - offset_at), offset_at = ?, fence = fence + 1
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, rule, offset_at FROM jobs WHERE status = 'scheduled' AND ready = 0 AND blockers = 0
        ORDER BY due_at DESC LIMIT ?
    ) WHERE rule IS NULL AND offset_at > ?
)

-- name: mend_retention
-- Parameters: now, how many of the farthest to look at, and after which time.
UPDATE jobs SET delete_at = ? + (delete_at - finished_at)
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, finished_at, delete_at FROM jobs WHERE delete_at IS NOT NULL AND is_kept = 0
        ORDER BY delete_at DESC LIMIT ?
    ) WHERE finished_at > ? AND delete_at >= finished_at
)

-- name: keep_ended
-- Parameters: by how much; from which to which time they would be deleted; from which to which they ended; how many.
UPDATE jobs SET delete_at = delete_at + ?
WHERE seq IN (
    SELECT seq FROM jobs
    WHERE delete_at IS NOT NULL AND is_kept = 0 AND delete_at BETWEEN ? AND ? AND finished_at BETWEEN ? AND ?
    LIMIT ?
)


-- Limits --------------------------------------------------------------------------------------------------------------
-- See sql/limits.py. A job that waits at a gate has one blocker more, as long as limit_waiters has a row with its number
-- and its fence.

-- name: limits_of_tasks
SELECT CAST(json_group_array(json_array(
    task, name, kind, maximum, per, burst, key, on_excess, weights
)) AS BLOB) FROM (
    SELECT task_limits.task, limits.* FROM task_limits CROSS JOIN limits ON limits.name = task_limits.name
    WHERE task_limits.task IN ({ids}) ORDER BY task_limits.task, task_limits.position
)

-- name: gate_columns
CAST(json_group_array(json_array(
    gates.id, gates.name, gates.key, limits.kind, coalesce(
        (SELECT maximum FROM limit_settings AS its WHERE its.name = gates.name AND its.key = gates.key),
        (SELECT maximum FROM limit_settings AS its WHERE its.name = gates.name AND its.key = ''),
        limits.maximum
    ), limits.per, limits.burst, gates.active, gates.tat, gates.closed_until, gates.is_waited, gates.turned_at
)) AS BLOB)

-- name: gates_of_keys
SELECT {gate} FROM (VALUES {rows}) AS v
CROSS JOIN limit_gates AS gates ON gates.name = v.column1 AND gates.key = v.column2
CROSS JOIN limits ON limits.name = gates.name

-- name: gates
SELECT {gate} FROM limit_gates AS gates CROSS JOIN limits ON limits.name = gates.name WHERE gates.id IN ({ids})

-- name: gates_of_limits
SELECT CAST(json_group_array(id) AS BLOB) FROM limit_gates WHERE name IN ({ids})

-- name: add_gates
INSERT INTO limit_gates (name, key) SELECT column1, column2 FROM (VALUES {rows}) WHERE column1 <> 0
ON CONFLICT DO NOTHING

-- name: change_gates
UPDATE limit_gates SET active = v.column2, tat = v.column3, closed_until = v.column4, opens_at = v.column5,
    is_waited = v.column6, turned_at = v.column7
FROM (VALUES {rows}) AS v WHERE id = v.column1

-- name: hold_limits
INSERT INTO limit_holders (job_id, fence, gate, owner, batch)
SELECT column1, column2, column3, column4, column5 FROM (VALUES {rows}) WHERE column1 <> 0

-- name: holders_of_claims
SELECT CAST(json_group_array(json_array(job_id, fence, gate, batch)) AS BLOB)
FROM (VALUES {rows}) AS v
CROSS JOIN limit_holders AS held ON held.job_id = v.column1 AND held.fence = v.column2 AND held.owner = v.column3

-- name: holders_of_batches
SELECT CAST(json_group_array(json_array(job_id, fence, gate, batch)) AS BLOB) FROM limit_holders WHERE batch IN ({ids})

-- name: holders_of_owners
SELECT CAST(json_group_array(json_array(job_id, fence, gate, batch)) AS BLOB) FROM limit_holders WHERE owner IN ({ids})

-- name: orphaned_holders
-- What claims hold that have ended without a word about it: a release before limits has settled them.
SELECT CAST(json_group_array(json_array(job_id, fence, gate, batch)) AS BLOB) FROM limit_holders
WHERE is_kept = 0 AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE jobs.id = limit_holders.job_id AND jobs.fence = limit_holders.fence AND jobs.status = 'running'
)

-- name: keep_holders
-- Of a claim: the job, the fence.
UPDATE limit_holders SET is_kept = 1 WHERE job_id = ? AND fence = ?

-- name: change_options
UPDATE jobs SET options = v.column2 FROM (VALUES {rows}) AS v WHERE id = v.column1 AND v.column1 <> 0

-- name: drop_holders
-- Of jobs whose claims have been settled. An older claim of a job may be kept.
DELETE FROM limit_holders WHERE job_id IN ({ids}) AND is_kept = 0

-- name: drop_holder
-- Of a claim: the job, the fence.
DELETE FROM limit_holders WHERE job_id = ? AND fence = ?

-- name: give_up_keys
-- Of jobs with limits, which have admitted them: so long they have a key that is theirs until the start.
UPDATE jobs SET unique_key = NULL WHERE id IN ({ids}) AND substr(unique_key, 1, 6) = 'start:'

-- name: refuse
-- Jobs that were claimed in this transaction wait at a gate instead: neither an attempt nor a start.
UPDATE jobs SET status = 'scheduled', ready = 1, owner = NULL, started_at = NULL, attempt = attempt - 1,
    blockers = blockers + 1
FROM (VALUES {rows}) AS v WHERE id = v.column1 AND v.column1 <> 0

-- name: hold_back
-- Jobs that were just inserted wait at a gate.
UPDATE jobs SET blockers = blockers + 1 FROM (VALUES {rows}) AS v WHERE id = v.column1 AND v.column1 <> 0

-- name: count_waiters
-- Not those that do not wait here any more.
SELECT CAST(json_group_array(json_array(gate, number)) AS BLOB) FROM (
    SELECT its.gate, count(*) AS number FROM limit_waiters AS its
    CROSS JOIN jobs ON jobs.seq = its.seq AND jobs.fence = its.fence AND jobs.status = 'scheduled'
    WHERE its.gate IN ({ids}) GROUP BY its.gate
)

-- name: count_others
-- Those that have places at these gates, and stand in the line of another limit that refuses some.
SELECT CAST(json_group_array(json_array(gate, number)) AS BLOB) FROM (
    SELECT gates.id AS gate, count(*) AS number FROM limit_lanes AS lanes
    CROSS JOIN limit_gates AS other ON other.id = lanes.gate
    CROSS JOIN limits AS its ON its.name = other.name AND its.on_excess <> 'wait'
    CROSS JOIN limit_gates AS gates ON gates.id IN ({ids}) AND gates.name <> other.name
    CROSS JOIN task_limits ON task_limits.task = lanes.task AND task_limits.name = gates.name
    CROSS JOIN limits ON limits.name = gates.name
    CROSS JOIN limit_waiters AS waiter
        ON waiter.gate = lanes.gate AND waiter.task = lanes.task AND waiter.queue = lanes.queue
    CROSS JOIN jobs ON jobs.seq = waiter.seq AND jobs.fence = waiter.fence AND jobs.status = 'scheduled'
    WHERE limits.key IS NULL OR CASE WHEN json_valid(jobs.options)
        THEN json_extract(jobs.options, '$.limit_keys."' || limits.key || '"') = gates.key
    END
    GROUP BY gates.id
)

-- name: add_waiters
INSERT OR REPLACE INTO limit_waiters (seq, fence, gate, task, queue, rank, due_at)
SELECT jobs.seq, jobs.fence, v.column2, jobs.task, jobs.queue, -jobs.priority, ifnull(v.column3, jobs.due_at)
FROM (VALUES {rows}) AS v CROSS JOIN jobs ON jobs.id = v.column1 AND v.column1 <> 0

-- name: add_lanes
INSERT INTO limit_lanes (gate, task, queue) SELECT DISTINCT v.column2, jobs.task, jobs.queue
FROM (VALUES {rows}) AS v CROSS JOIN jobs ON jobs.id = v.column1 AND v.column1 <> 0
WHERE true ON CONFLICT DO NOTHING

-- name: wait_at
UPDATE limit_gates SET is_waited = 1 WHERE id IN ({ids})

-- name: open_lanes
-- Where jobs wait at gates that are open, of these tasks. Parameters: now, the queues as JSON (or NULL) twice, {ids}.
SELECT CAST(json_group_array(json_array(gate, task, queue)) AS BLOB) FROM (
    SELECT lanes.gate, lanes.task, lanes.queue
    FROM limit_gates AS gates CROSS JOIN limit_lanes AS lanes ON lanes.gate = gates.id
    WHERE gates.is_waited = 1 AND gates.opens_at <= ? AND (? IS NULL OR lanes.queue IN (SELECT value FROM json_each(?)))
        AND lanes.task IN ({ids})
        AND lanes.queue NOT IN (SELECT name FROM paused_queues)
    ORDER BY gates.opens_at, gates.turned_at LIMIT 1024
)

-- name: first_waiters
-- The first jobs in these lines, and whether each waits for nothing else: NULL, it does not wait here any more.
-- Parameters: how many of each, {rows}.
WITH bound (most) AS (SELECT ?)
SELECT CAST(json_group_array(json_array(
    v.column1, v.column2, v.column3, ifnull(jobs.id, ''), place.seq, place.rank, ifnull(jobs.due_at, 0), place.due_at,
    CASE WHEN jobs.fence = place.fence AND jobs.status = 'scheduled' THEN jobs.blockers = 1 END
)) AS BLOB)
FROM (VALUES {rows}) AS v
CROSS JOIN json_each((
    SELECT json_group_array(seq) FROM (
        SELECT seq FROM limit_waiters AS its
        WHERE its.gate = v.column1 AND its.task = v.column2 AND its.queue = v.column3
        ORDER BY rank, due_at, seq LIMIT (SELECT most FROM bound)
    )
)) AS waiter
CROSS JOIN limit_waiters AS place ON place.seq = waiter.value
LEFT JOIN jobs ON jobs.seq = place.seq

-- name: batch_waiters
-- What else decides whether jobs that wait make a batch.
SELECT CAST(json_group_array(json_array(seq, created_at, options)) AS BLOB) FROM jobs WHERE seq IN ({ids})

-- name: admit_waiters
UPDATE jobs SET blockers = blockers - 1 WHERE seq IN ({ids})

-- name: drop_waiters
DELETE FROM limit_waiters WHERE seq IN ({ids})

-- name: drop_lanes
-- The lines before these gates in which no job waits.
DELETE FROM limit_lanes WHERE gate IN ({ids}) AND NOT EXISTS (
    SELECT 1 FROM limit_waiters AS its
    WHERE its.gate = limit_lanes.gate AND its.task = limit_lanes.task AND its.queue = limit_lanes.queue
)

-- name: waited_gates
-- Those of these gates at which a job may wait.
SELECT CAST(json_group_array(DISTINCT gate) AS BLOB) FROM limit_lanes WHERE gate IN ({ids})

-- name: next_opening
-- Of gates that time opens. (The number is NEVER of model/limit_gates.py.)
SELECT CAST(json_array(min(opens_at)) AS BLOB) FROM limit_gates
WHERE is_waited = 1 AND opens_at > ? AND opens_at < 4611686018427387904

-- name: drop_task_limits
DELETE FROM task_limits WHERE task IN ({ids})

-- name: add_task_limits
INSERT INTO task_limits (task, position, name) SELECT column1, column2, column3 FROM (VALUES {rows}) WHERE column1 <> 0

-- name: define_limits
INSERT INTO limits (name, kind, maximum, per, burst, key, on_excess, weights)
SELECT column1, column2, column3, column4, column5, column6, column7, column8 FROM (VALUES {rows}) WHERE column1 <> 0
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, maximum = excluded.maximum, per = excluded.per,
    burst = excluded.burst, key = excluded.key, on_excess = excluded.on_excess, weights = excluded.weights

-- name: misplaced_waiters
-- Jobs of these tasks that wait at a gate of a limit which their task does not have.
SELECT CAST(json_group_array(json_array(limit_waiters.seq, ifnull(
    (SELECT 1 FROM jobs WHERE jobs.seq = limit_waiters.seq AND jobs.fence = limit_waiters.fence AND jobs.status = 'scheduled'), 0
))) AS BLOB)
FROM limit_lanes AS lanes CROSS JOIN limit_gates AS gates ON gates.id = lanes.gate
CROSS JOIN limit_waiters ON limit_waiters.gate = lanes.gate AND limit_waiters.task = lanes.task
    AND limit_waiters.queue = lanes.queue
WHERE lanes.task IN ({ids})
    AND NOT EXISTS (SELECT 1 FROM task_limits WHERE task_limits.task = lanes.task AND task_limits.name = gates.name)

-- name: keys_of_limits
-- By which keys these limits have gates.
SELECT CAST(json_group_array(json_array(name, kind, key)) AS BLOB) FROM limits WHERE name IN ({ids})

-- name: waiters_of_limits
SELECT CAST(json_group_array(json_array(its.seq, ifnull(
    (SELECT 1 FROM jobs WHERE jobs.seq = its.seq AND jobs.fence = its.fence AND jobs.status = 'scheduled'), 0
))) AS BLOB)
FROM limit_gates AS gates CROSS JOIN limit_waiters AS its ON its.gate = gates.id
WHERE gates.name IN ({ids})

-- name: set_limit
INSERT INTO limit_settings (name, key, maximum) VALUES (?, ?, ?)
ON CONFLICT (name, key) DO UPDATE SET maximum = excluded.maximum

-- name: reset_limit
DELETE FROM limit_settings WHERE name = ? AND key = ?

-- name: list_limits
-- Entries that do not wait any more are left out where they can be: up to ten thousand are looked at.
SELECT CAST(json_group_array(json_array(
    limits.name, '', limits.kind, coalesce(its.maximum, limits.maximum), limits.per, limits.burst, its.maximum IS NOT NULL,
    ifnull((SELECT sum(active) FROM limit_gates AS gates WHERE gates.name = limits.name), 0),
    coalesce(nullif((SELECT count(*) FROM (
        SELECT 1 FROM limit_gates AS gates CROSS JOIN limit_waiters AS waiter ON waiter.gate = gates.id
        CROSS JOIN jobs ON jobs.seq = waiter.seq AND jobs.fence = waiter.fence AND jobs.status = 'scheduled'
        WHERE gates.name = limits.name AND gates.is_waited = 1 LIMIT 10000
    )), 10000), (
        SELECT count(*) FROM limit_gates AS gates CROSS JOIN limit_waiters AS waiter ON waiter.gate = gates.id
        WHERE gates.name = limits.name AND gates.is_waited = 1
    )), limits.key
)) AS BLOB)
FROM limits LEFT JOIN limit_settings AS its ON its.name = limits.name AND its.key = ''
WHERE limits.name IN (SELECT name FROM task_limits)

-- name: list_limit_keys
-- Parameters: name, limit.
SELECT CAST(json_group_array(json_array(
    name, key, kind, coalesce(own, its, maximum), per, burst, own IS NOT NULL, active, waiting, path
)) AS BLOB) FROM (
    SELECT limits.key AS path, gates.name, gates.key, gates.active, limits.kind, limits.maximum, limits.per, limits.burst,
        own.maximum AS own, its.maximum AS its,
        coalesce(nullif((SELECT count(*) FROM (
            SELECT 1 FROM limit_waiters AS waiter
            CROSS JOIN jobs ON jobs.seq = waiter.seq AND jobs.fence = waiter.fence AND jobs.status = 'scheduled'
            WHERE waiter.gate = gates.id LIMIT 10000
        )), 10000), (SELECT count(*) FROM limit_waiters AS waiter WHERE waiter.gate = gates.id)) AS waiting
    FROM limits CROSS JOIN limit_gates AS gates ON gates.name = limits.name
    LEFT JOIN limit_settings AS own ON own.name = gates.name AND own.key = gates.key AND own.key <> ''
    LEFT JOIN limit_settings AS its ON its.name = gates.name AND its.key = ''
    WHERE limits.name = ? AND (gates.active > 0 OR gates.is_waited = 1 OR own.maximum IS NOT NULL)
    ORDER BY waiting DESC, gates.active DESC, gates.key LIMIT ?
)

-- name: limit_waits
SELECT CAST(json_group_array(json_array(
    jobs.id, gates.name, gates.key, limits.kind, coalesce(
        (SELECT maximum FROM limit_settings AS its WHERE its.name = gates.name AND its.key = gates.key),
        (SELECT maximum FROM limit_settings AS its WHERE its.name = gates.name AND its.key = ''),
        limits.maximum
    ), gates.active,
    (SELECT count(*) FROM (
        SELECT 1 FROM limit_waiters AS before
        WHERE before.gate = waiter.gate AND before.task = waiter.task AND before.queue = waiter.queue
            AND (before.rank, before.due_at, before.seq) <= (waiter.rank, waiter.due_at, waiter.seq) LIMIT 10001
    ))
)) AS BLOB)
FROM jobs CROSS JOIN limit_waiters AS waiter ON waiter.seq = jobs.seq AND waiter.fence = jobs.fence
CROSS JOIN limit_gates AS gates ON gates.id = waiter.gate CROSS JOIN limits ON limits.name = gates.name
WHERE jobs.id IN ({ids}) AND jobs.status = 'scheduled'

-- name: give_up_key
UPDATE jobs SET unique_key = NULL WHERE id = ?

-- name: hold_unique
SELECT CAST(json_group_array(id) AS BLOB) FROM jobs
WHERE unique_key = ? AND unique_key IS NOT NULL
    AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed')

-- name: window
SELECT CAST(json_group_array(json_array(job_id, first_at, closes_at, is_trailing)) AS BLOB)
FROM merge_windows WHERE key = ?

-- name: set_window
INSERT OR REPLACE INTO merge_windows (key, job_id, first_at, closes_at, is_trailing) VALUES (?, ?, ?, ?, ?)

-- name: is_window_closed
-- Whether there may be a window to forget.
SELECT CAST(json_group_array(found) AS BLOB)
FROM (SELECT EXISTS (SELECT 1 FROM merge_windows WHERE closes_at <= ?) AS found)

-- name: forget_windows
DELETE FROM merge_windows WHERE key IN (
    SELECT key FROM merge_windows WHERE closes_at <= ? AND NOT EXISTS (
        SELECT 1 FROM jobs WHERE jobs.id = merge_windows.job_id AND jobs.status = 'scheduled'
    ) LIMIT ?
)
