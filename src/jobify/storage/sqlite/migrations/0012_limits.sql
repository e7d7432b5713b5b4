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
    number INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    fence INTEGER NOT NULL,
    gate INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    -- 1: the claim has been settled, but its function still runs in a thread.
    is_kept INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX limit_holders_of_claim ON limit_holders (job_id, fence);
CREATE INDEX limit_holders_of_owner ON limit_holders (owner);

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
