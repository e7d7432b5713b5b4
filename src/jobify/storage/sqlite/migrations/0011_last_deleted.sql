-- The numbers of jobs without AUTOINCREMENT: see schema.sql. (schema.py takes the word away, where SQLite lets it.)

CREATE TABLE last_deleted (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO last_deleted (id, seq)
SELECT 1, seq FROM sqlite_sequence WHERE name = 'jobs' AND seq > ifnull((SELECT max(seq) FROM jobs), 0);

CREATE TRIGGER jobs_keep_number AFTER DELETE ON jobs WHEN NOT EXISTS (SELECT 1 FROM jobs WHERE seq > OLD.seq)
BEGIN
    INSERT INTO last_deleted (id, seq) VALUES (1, OLD.seq) ON CONFLICT (id) DO UPDATE SET seq = max(seq, excluded.seq);
END;
