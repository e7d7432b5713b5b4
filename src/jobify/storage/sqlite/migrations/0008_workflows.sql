-- What a job was cancelled for: the seq of the job that ended, or was deleted, and took this one with it, directly or
-- through others. NULL: nothing, or it is not known.
ALTER TABLE jobs ADD COLUMN cause INTEGER;

-- What fell with a job.
CREATE INDEX jobs_fallen ON jobs (cause) WHERE cause IS NOT NULL;

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

DROP TRIGGER jobs_forget;

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

-- A release before this one told what fell with a job by its reason, and its end was that of the job.
UPDATE jobs SET cause = fallen.root
FROM (
    WITH RECURSIVE fallen (seq, root) AS (
        SELECT child.seq, parent.seq
        FROM jobs AS parent
        CROSS JOIN dependencies ON dependencies.parent = parent.seq
        CROSS JOIN jobs AS child ON child.seq = dependencies.child
        WHERE parent.finished_at IS NOT NULL AND parent.status IN ('failed', 'timeout', 'permanently_failed')
            AND child.status = 'cancelled' AND child.error LIKE 'dependency %'
        UNION
        SELECT child.seq, fallen.root
        FROM fallen
        CROSS JOIN dependencies ON dependencies.parent = fallen.seq
        CROSS JOIN jobs AS child ON child.seq = dependencies.child
        WHERE child.status = 'cancelled' AND child.error LIKE 'dependency %'
    )
    SELECT seq, min(root) AS root FROM fallen GROUP BY seq
) AS fallen
WHERE jobs.seq = fallen.seq;
