-- Calls on a user's connection.

-- name: place
-- Where a connection leads to: when the server was started, and the database.
SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, oid::bigint, datname::text
FROM pg_database WHERE datname = current_database()

-- name: notify
SELECT pg_notify($1::text, '')
