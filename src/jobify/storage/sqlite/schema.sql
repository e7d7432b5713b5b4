-- The schema as it is after all migrations: for reading. Files are made by the migrations; a test holds both equal.
-- Tables are STRICT, so that a value of a wrong type is refused where it is written and a row can always be read back.
-- Times are microseconds since 1970 (UTC), booleans are 0 and 1.

CREATE TABLE jobs (
    -- The order of insertion. Never given twice (see last_deleted), so with the fence it proves that a row is still the one
    -- that was seen.
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    -- A word of JobStatus. Not checked: a newer release may know more words, and such a row must be left in peace.
    status TEXT NOT NULL,
    -- While the job waits: 1, it is due and in jobs_ready; 0, it is in jobs_staged until it becomes due.
    ready INTEGER NOT NULL CHECK (ready IN (0, 1)),
    owner INTEGER,
    fence INTEGER NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    offset_at INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    delete_at INTEGER,
    origin INTEGER,
    attempt INTEGER NOT NULL,
    run_count INTEGER NOT NULL DEFAULT 0,
    failure_count INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    -- 1 exactly while table cancels, or successors, has a row for this job. Only running jobs have either.
    has_cancel INTEGER NOT NULL DEFAULT 0,
    has_successor INTEGER NOT NULL DEFAULT 0,
    -- What it waits for beside the time: parents that have not ended, a pause, other code.
    blockers INTEGER NOT NULL DEFAULT 0,
    is_paused INTEGER NOT NULL DEFAULT 0,
    -- 1 while a dependency on this job may be open: its end concerns others.
    has_dependents INTEGER NOT NULL DEFAULT 0,
    -- 1 when the janitor has come by and left it for the sake of a job that depends on it; that one has 1 in has_kept.
    is_kept INTEGER NOT NULL DEFAULT 0,
    has_kept INTEGER NOT NULL DEFAULT 0,
    is_dead INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER,
    progress REAL,
    unique_key TEXT,
    -- What may be long comes last, so that reading the rest of a row does not follow overflow pages.
    rule TEXT,
    options TEXT,
    error TEXT,
    payload BLOB NOT NULL,
    result BLOB
, payload_ref INTEGER, result_ref INTEGER, cause INTEGER, is_parked INTEGER NOT NULL DEFAULT 0, parked TEXT) STRICT;
-- A value that is large is empty in its column and stands in value_parts; the reference says where. NULL: it is inline.
-- is_parked is 1 while the job waits for code that its call fits; it has one blocker more then. parked says, as JSON, why
-- (reason, at), and which code it did not fit (codes). Only the codes mean something while it is not parked.

-- All indexes but the one of id are partial: they hold what is live, so a million ended jobs make none of them bigger.

-- Claims read this one, in its order.
CREATE INDEX jobs_ready ON jobs (queue, task, priority DESC, due_at)
    WHERE status = 'scheduled' AND ready = 1 AND blockers = 0;
-- What becomes due next.
CREATE INDEX jobs_staged ON jobs (due_at) WHERE status = 'scheduled' AND ready = 0 AND blockers = 0;
-- What waits for other jobs, or for the end of a pause: nobody looks for it, it is only counted.
CREATE INDEX jobs_blocked ON jobs (queue, task) WHERE blockers > 0 AND status = 'scheduled';
-- What an owner holds.
CREATE INDEX jobs_running ON jobs (owner) WHERE status = 'running';
-- What has not ended, in the order in which it is listed, but for what waits or runs as it was enqueued, due at once: that
-- is found in jobs_ready, jobs_blocked and jobs_running, so that most jobs never cost an entry here.
CREATE INDEX jobs_live ON jobs (id) WHERE status IN ('scheduled', 'running') AND (due_at <> created_at OR ready = 0);
-- What somebody wants cancelled: almost always empty, so that asking costs nothing.
CREATE INDEX jobs_cancelling ON jobs (owner) WHERE has_cancel = 1;
-- What has an end to its waiting.
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at IS NOT NULL AND status = 'scheduled';
-- What the janitor may delete next.
CREATE INDEX jobs_outdated ON jobs (delete_at) WHERE delete_at IS NOT NULL AND is_kept = 0;
-- What people look for among a million successes, in the order in which it is listed. (A list of the words would be
-- looked through for each row that is written.)
CREATE INDEX jobs_unsuccessful ON jobs (status, id)
    WHERE finished_at IS NOT NULL AND status <> 'success';
-- Of one key only one job is not ended; a word that this release does not know is no end.
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key)
    WHERE unique_key IS NOT NULL
        AND status NOT IN ('success', 'failed', 'timeout', 'cancelled', 'permanently_failed');
-- Schedules are few among many.
CREATE INDEX jobs_schedules ON jobs (id) WHERE rule IS NOT NULL;
-- What waits for other code: almost always empty.
CREATE INDEX jobs_parked ON jobs (task) WHERE is_parked = 1;

-- What fell with a job: what was cancelled for it. (cause is the seq of the job that ended, or was deleted, and took this one
-- with it, directly or through others. NULL: nothing, or it is not known.)
CREATE INDEX jobs_fallen ON jobs (cause) WHERE cause IS NOT NULL;

-- The number of the last job, if that job was deleted and none was inserted since: else there is no row. The next job gets
-- a higher one. (AUTOINCREMENT would write a page of its own at each insert.)
CREATE TABLE last_deleted (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

CREATE TRIGGER jobs_keep_number AFTER DELETE ON jobs WHEN NOT EXISTS (SELECT 1 FROM jobs WHERE seq > OLD.seq)
BEGIN
    INSERT INTO last_deleted (id, seq) VALUES (1, OLD.seq) ON CONFLICT (id) DO UPDATE SET seq = max(seq, excluded.seq);
END;

-- A pending replacement of a running job: what put() was given.
CREATE TABLE successors (
    id TEXT NOT NULL PRIMARY KEY,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    ready INTEGER NOT NULL CHECK (ready IN (0, 1)),
    due_at INTEGER NOT NULL,
    offset_at INTEGER,
    created_at INTEGER NOT NULL,
    origin INTEGER,
    run_count INTEGER NOT NULL,
    failure_count INTEGER NOT NULL,
    expires_at INTEGER,
    rule TEXT,
    options TEXT,
    payload BLOB NOT NULL
, payload_ref INTEGER, unique_key TEXT) STRICT;

-- A pending cancel of a running job: what cancel() was given.
CREATE TABLE cancels (
    id TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    delete_at INTEGER
) STRICT;

-- Which job (child) waits for the success of which (parent). It is open until the parent has ended, and stays to be read
-- as long as the child. Both are seq of jobs, so that another job with the id of one that is gone is not meant; or numbers of
-- barriers.
CREATE TABLE dependencies (
    seq INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    parent_id TEXT NOT NULL,
    child INTEGER NOT NULL,
    is_open INTEGER NOT NULL
) STRICT;

CREATE INDEX dependencies_of_parent ON dependencies (parent);
CREATE INDEX dependencies_of_child ON dependencies (child);

-- A barrier stands between jobs of which each waits for all of the same parents, so that N parents and M children are
-- N + M dependencies. In dependencies its number is the negative of its seq. AUTOINCREMENT: never given twice.
CREATE TABLE barriers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- How many of the parents have not succeeded yet.
    waiting INTEGER NOT NULL,
    -- When the last of those that have ended did.
    ended_at INTEGER
) STRICT;

-- A barrier goes with the last job behind it.
CREATE TRIGGER dependencies_forget AFTER DELETE ON dependencies
WHEN OLD.parent < 0 AND NOT EXISTS (SELECT 1 FROM dependencies WHERE parent = OLD.parent)
BEGIN
    DELETE FROM dependencies WHERE child = OLD.parent;
    DELETE FROM barriers WHERE seq = -OLD.parent;
END;

-- Queues of which no claim takes jobs.
CREATE TABLE paused_queues (
    name TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What running jobs have published: values (blobs) and log lines (texts), numbered for each job from 1.
CREATE TABLE messages (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level TEXT,
    data ANY NOT NULL,
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;

-- The history of jobs.
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    traceback TEXT,
    started_at INTEGER,
    finished_at INTEGER NOT NULL,
    owner INTEGER,
    -- In the line of the run that stopped a schedule: the fingerprint of the code that failed.
    code TEXT
) STRICT;

CREATE INDEX attempts_of_job ON attempts (job_id);

-- A job takes its history along, what it has published, and what it depended on, whoever deletes it. What the janitor has
-- left for its sake, or for the sake of what fell with it, may be looked at again.
CREATE TRIGGER jobs_forget AFTER DELETE ON jobs
BEGIN
    DELETE FROM attempts WHERE job_id = OLD.id;
    DELETE FROM messages WHERE job_id = OLD.id;
    UPDATE jobs SET is_kept = 0 WHERE OLD.has_kept = 1 AND is_kept = 1 AND seq IN (
        SELECT parent FROM dependencies WHERE child = OLD.seq OR child IN (SELECT seq FROM jobs WHERE cause = OLD.seq)
        UNION ALL
        SELECT parent FROM dependencies WHERE child IN (
            SELECT parent FROM dependencies
            WHERE parent < 0 AND (child = OLD.seq OR child IN (SELECT seq FROM jobs WHERE cause = OLD.seq))
        )
    );
    DELETE FROM dependencies WHERE child = OLD.seq;
END;

-- Processes. AUTOINCREMENT: an id is never used twice, so an old claim can never be taken for a new one.
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    -- Its profile; queues (NULL: all) and tasks are lists in JSON.
    role TEXT NOT NULL,
    queues TEXT,
    tasks TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    -- The name of its lock file, without the suffix.
    lock TEXT NOT NULL,
    -- The address of its bell, NULL if it has none.
    bell TEXT,
    -- The identity of its process, of its lock file and of the database file (see liveness.py), NULL if it is of an older
    -- release.
    process TEXT,
    -- 1: the process has left, and what the owner still holds is released when its lock is, without an attempt or a crash.
    is_leaving INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Large arguments and results, in parts of up to 256 KiB, so that a change of state does not rewrite them with the row. The
-- upper bits of seq are the number of the value, the lower 20 bits that of the part. A reference is the number of the
-- value, and in its lower 20 bits the number of parts. AUTOINCREMENT: a number is never used twice, so that a reference
-- that was read a moment ago never leads to another value.
CREATE TABLE value_parts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    data BLOB NOT NULL
) STRICT;

-- Whatever deletes or replaces a reference deletes the parts.
CREATE TRIGGER jobs_forget_values AFTER DELETE ON jobs
WHEN OLD.payload_ref IS NOT NULL OR OLD.result_ref IS NOT NULL
BEGIN
    DELETE FROM value_parts WHERE seq BETWEEN OLD.payload_ref & ~1048575 AND OLD.payload_ref | 1048575;
    DELETE FROM value_parts WHERE seq BETWEEN OLD.result_ref & ~1048575 AND OLD.result_ref | 1048575;
END;

CREATE TRIGGER jobs_replace_payload AFTER UPDATE OF payload_ref ON jobs
WHEN OLD.payload_ref IS NOT NULL AND OLD.payload_ref IS NOT NEW.payload_ref
BEGIN
    DELETE FROM value_parts WHERE seq BETWEEN OLD.payload_ref & ~1048575 AND OLD.payload_ref | 1048575;
END;

CREATE TRIGGER jobs_replace_result AFTER UPDATE OF result_ref ON jobs
WHEN OLD.result_ref IS NOT NULL AND OLD.result_ref IS NOT NEW.result_ref
BEGIN
    DELETE FROM value_parts WHERE seq BETWEEN OLD.result_ref & ~1048575 AND OLD.result_ref | 1048575;
END;

CREATE TRIGGER successors_forget AFTER DELETE ON successors
WHEN OLD.payload_ref IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = OLD.id AND payload_ref = OLD.payload_ref)
BEGIN
    DELETE FROM value_parts WHERE seq BETWEEN OLD.payload_ref & ~1048575 AND OLD.payload_ref | 1048575;
END;

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
    is_apart INTEGER NOT NULL CHECK (is_apart IN (0, 1)),
    -- 1: its last crash ends it, unless another process dies within the next seconds. Meanwhile it is not tried.
    is_held INTEGER NOT NULL DEFAULT 0 CHECK (is_held IN (0, 1))
) STRICT;

-- The next group to be tried.
CREATE INDEX suspects_apart ON suspects (death) WHERE is_apart = 1 AND is_held = 0;
-- Those that wait for their verdict.
CREATE INDEX suspects_held ON suspects (job) WHERE is_held = 1;

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

-- What the processes of this database have learned about the clock, in one row.
CREATE TABLE clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The sum of all changes of the clock that were applied to elapsed times.
    changes INTEGER NOT NULL,
    -- A late time that is known to have been; and the one that a clock showed which was far beyond it.
    trusted_at INTEGER,
    doubted_at INTEGER
) STRICT;

-- Limits: how many jobs of a task, or of a key, may run at once, or start in a time.

-- The last declaration of each limit.
CREATE TABLE limits (
    name TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    maximum INTEGER NOT NULL,
    -- Of a rate: microseconds, and how many more starts at once. Of others 0.
    per INTEGER NOT NULL,
    burst INTEGER NOT NULL,
    -- How the key is found in the arguments of a job. NULL: one gate for all jobs.
    key TEXT,
    on_excess TEXT NOT NULL,
    -- Of a fair share: the weights of keys that do not have 1, as JSON.
    weights TEXT
) STRICT, WITHOUT ROWID;

-- The limits of each task, in their order.
CREATE TABLE task_limits (
    task TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (task, name)
) STRICT, WITHOUT ROWID;

-- What operators have set; key '' is for all keys.
CREATE TABLE limit_settings (
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    maximum INTEGER NOT NULL,
    PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;

-- The state of a limit for a key (JSON; '' for a limit without one).
CREATE TABLE limit_gates (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 0,
    -- Of a rate: when the next start is due if all come evenly, and until when none is allowed.
    tat INTEGER NOT NULL DEFAULT 0,
    closed_until INTEGER NOT NULL DEFAULT 0,
    -- From when on it admits a job, as things are.
    opens_at INTEGER NOT NULL DEFAULT 0,
    -- 1 while limit_lanes has a row for it.
    is_waited INTEGER NOT NULL DEFAULT 0,
    -- When a job was last let in, or out.
    turned_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name, key)
) STRICT;

-- What claims look at first.
CREATE INDEX limit_gates_opening ON limit_gates (opens_at, turned_at) WHERE is_waited = 1;

-- What running jobs hold. The claim that holds it is named whole: one that was lost holds nothing.
CREATE TABLE limit_holders (
    job_id TEXT NOT NULL,
    fence INTEGER NOT NULL,
    gate INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    -- 1: the claim has been settled, but its function still runs in a thread.
    is_kept INTEGER NOT NULL DEFAULT 0,
    -- Jobs that run together hold the gate once. NULL: it is held by itself.
    batch TEXT,
    PRIMARY KEY (job_id, fence, gate)
) STRICT, WITHOUT ROWID;

CREATE INDEX limit_holders_of_batch ON limit_holders (batch) WHERE batch IS NOT NULL;

-- Jobs that wait at a gate: each has one blocker for it, as long as its fence is this one and it waits.
CREATE TABLE limit_waiters (
    seq INTEGER PRIMARY KEY,
    fence INTEGER NOT NULL,
    gate INTEGER NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    -- The negative priority.
    rank INTEGER NOT NULL,
    -- Or the place in a line of turns.
    due_at INTEGER NOT NULL
) STRICT;

CREATE INDEX limit_waiters_in_line ON limit_waiters (gate, task, queue, rank, due_at);

-- The tasks and queues of the jobs that wait at a gate, so that a claim finds its own behind any number of others.
CREATE TABLE limit_lanes (
    gate INTEGER NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    PRIMARY KEY (gate, task, queue)
) STRICT, WITHOUT ROWID;

-- Of each key of a debounced task, the job that its last calls were merged into.
CREATE TABLE merge_windows (
    key TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    closes_at INTEGER NOT NULL,
    is_trailing INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX merge_windows_closing ON merge_windows (closes_at);
