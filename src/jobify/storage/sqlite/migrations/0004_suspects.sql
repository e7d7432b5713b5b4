-- Jobs that had begun in a process that died, and the deaths themselves. A job without a row is no suspect; nearly
-- always there is no row at all, so that nothing is paid for them.

CREATE TABLE suspects (
    -- The seq of the job, which is never given twice: a row whose job is gone or has ended means nothing.
    job INTEGER PRIMARY KEY,
    -- The attempt that was lost. A job that counts its attempts from 0 again is no suspect any more.
    attempt INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    -- The ids of its last deaths, the newest last, as JSON; the newest by itself; and how many suspects that one had.
    seen TEXT NOT NULL,
    death INTEGER NOT NULL,
    company INTEGER NOT NULL,
    -- 1: it waits to run apart, or does. The job has one blocker more then, as long as the attempt has not ended.
    is_apart INTEGER NOT NULL CHECK (is_apart IN (0, 1))
) STRICT;

-- The next group to be tried.
CREATE INDEX suspects_apart ON suspects (death) WHERE is_apart = 1;

-- Ends of processes that were owners. AUTOINCREMENT: an id is never used twice.
CREATE TABLE deaths (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- When it was found.
    at INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    -- How many jobs the process held, and how many of them had begun.
    held INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    -- 1: all that had begun there ran apart, so one of them explains the death.
    is_trial INTEGER NOT NULL CHECK (is_trial IN (0, 1))
) STRICT;
