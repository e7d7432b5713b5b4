-- What a probe reads. $1: the queues; NULL: all.

-- name: server_time
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: oldest_ready
SELECT id, task, queue, due_at FROM @jobs
WHERE status = 'scheduled' AND ready AND blockers = 0 AND queue NOT IN (SELECT name FROM @paused_queues)
    AND ($1::text[] IS NULL OR queue = ANY ($1::text[]))
ORDER BY due_at LIMIT 1

-- name: oldest_overdue
-- What has become due, and was not considered by a claim yet.
SELECT id, task, queue, due_at FROM @jobs
WHERE status = 'scheduled' AND NOT ready AND blockers = 0
    AND due_at <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    AND queue NOT IN (SELECT name FROM @paused_queues) AND ($1::text[] IS NULL OR queue = ANY ($1::text[]))
ORDER BY due_at LIMIT 1

-- name: stopped_schedules
-- One that has had all its runs was not stopped; see is_stopped in cron.py.
SELECT id, task, error, finished_at FROM @jobs
WHERE rule IS NOT NULL AND is_dead AND finished_at IS NOT NULL
    AND NOT coalesce((@json_of(rule) ->> 'max_runs')::integer BETWEEN 0 AND run_count, false)

-- name: parked_calls
SELECT id, task, queue, parked FROM @jobs
WHERE is_parked AND ($1::text[] IS NULL OR queue = ANY ($1::text[]))
