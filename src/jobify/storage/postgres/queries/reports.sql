-- Reports: progress, values, log lines.

-- name: reporting
-- Of these claims (id, owner, fence), those that hold, with the attempt and the number of the last message.
SELECT
    held.id, held.owner, held.fence, held.attempt,
    coalesce((SELECT max(number) FROM @messages WHERE job_id = held.id), 0)
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS v (id, owner, fence)
JOIN @jobs AS held ON held.id = v.id AND held.owner + 0 = v.owner AND held.fence = v.fence AND held.status || '' = 'running'
ORDER BY held.seq FOR NO KEY UPDATE OF held

-- name: progress
UPDATE @jobs SET progress = v.progress FROM unnest($1::text[], $2::float8[]) AS v (id, progress) WHERE jobs.id = v.id

-- name: publish
INSERT INTO @messages (job_id, number, kind, attempt, at, level, data, is_text)
SELECT * FROM unnest(
    $1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[], $8::boolean[]
)

-- name: messages
-- A page: so many that they are not too large, but one at least.
SELECT number, kind, attempt, at, data, level, is_text FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY number) AS size FROM @messages
    WHERE job_id = $1 AND number > $2 AND ($3::text IS NULL OR kind = $3) ORDER BY number LIMIT $4
) AS page
WHERE size <= $5 OR size = octet_length(data) ORDER BY number
