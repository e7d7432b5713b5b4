-- Arguments and results that are large move out of the rows of jobs: a change of state rewrites a row, all of it. Rows
-- that an older release wrote keep their values inline; both forms are read.

CREATE TABLE value_parts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    data BLOB NOT NULL
) STRICT;

ALTER TABLE jobs ADD COLUMN payload_ref INTEGER;
ALTER TABLE jobs ADD COLUMN result_ref INTEGER;
ALTER TABLE successors ADD COLUMN payload_ref INTEGER;

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
