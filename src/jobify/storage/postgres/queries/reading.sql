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
CASE WHEN jobs.is_parked THEN coalesce(jobs.parked, '') END

-- name: get
SELECT {record} FROM @jobs WHERE jobs.id = ANY ($1::text[]) {lock}
