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

-- name: insert_plain
-- Jobs that are due, with nothing but their arguments.
INSERT INTO @jobs (id, task, queue, priority, due_at, created_at, payload, status, ready, fence, attempt)
SELECT *, 'scheduled', true, 0, 0 FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]
)
ON CONFLICT DO NOTHING
RETURNING id

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
