-- Owners: the processes that may claim.

-- name: register
-- A lease begins when it is written.
INSERT INTO @owners (host, pid, started_at, seen_at, role, queues, tasks, concurrency, lock_key, process, lease_until)
VALUES (
    $1, $2::integer, $3, $3, $4, $5, $6, $7::integer, $8, $9,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $10::bigint
)
RETURNING id

-- name: register_again
INSERT INTO @owners (
    host, pid, started_at, seen_at, role, queues, tasks, concurrency, lock_key, process, lease_until, id
)
VALUES (
    $1, $2::integer, $3, $3, $4, $5, $6, $7::integer, $8, $9,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $10::bigint, $11
)
ON CONFLICT (id) DO NOTHING

-- name: heartbeat
UPDATE @owners SET seen_at = $1 WHERE id = $2

-- name: leave
UPDATE @owners SET is_leaving = true WHERE id = $1

-- name: owners
-- Each with whether it lives. Its lock is tried as one that several may hold, and for no longer than this statement
-- takes, so that those who look do not take one another for the owner. Then, the same in each row, whether a suspect waits
-- for its verdict, and when the next waiting job expires: so an idle process makes one query instead of two.
SELECT
    id, host, pid, started_at, seen_at, role, queues, tasks, concurrency, lock_key, process, is_leaving,
    lease_until IS NOT NULL,
    CASE
        WHEN lease_until IS NULL THEN NOT pg_try_advisory_xact_lock_shared(lock_key)
        ELSE lease_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    END,
    (SELECT EXISTS (SELECT 1 FROM @suspects WHERE is_held)), pg_current_snapshot()::text,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    (
        SELECT expires_at FROM @jobs WHERE expires_at IS NOT NULL AND status = 'scheduled'
        ORDER BY expires_at, seq LIMIT 1
    )
FROM @owners ORDER BY id

-- name: snapshot
SELECT pg_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: still_dead
-- Of these owners, those that are there and whose lock is free. It stays free until the end of the transaction. One for
-- which a claim is under way is left for later.
SELECT id FROM @owners
WHERE id = ANY ($1::bigint[]) AND CASE
    WHEN lease_until IS NULL THEN pg_try_advisory_xact_lock_shared(lock_key)
    ELSE lease_until <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
END
ORDER BY id
FOR UPDATE SKIP LOCKED

-- name: renew_leases
UPDATE @owners SET lease_until = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $1
WHERE lock_key = ANY ($2::bigint[]) AND lease_until IS NOT NULL

-- name: close_owners
-- The process of an owner has let go of it.
UPDATE @owners SET process = 'closed', lease_until = CASE WHEN lease_until IS NOT NULL THEN 0 END
WHERE lock_key = ANY ($1::bigint[])

-- name: deregister
DELETE FROM @owners WHERE id = ANY ($1::bigint[])
