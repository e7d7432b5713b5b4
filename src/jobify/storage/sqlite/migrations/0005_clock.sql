-- What the processes of this database have learned about the clock, in one row.

CREATE TABLE clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The sum of all changes of the clock that were applied to elapsed times.
    changes INTEGER NOT NULL,
    -- A late time that is known to have been; and the one that a clock showed which was far beyond it.
    trusted_at INTEGER,
    doubted_at INTEGER
) STRICT;
