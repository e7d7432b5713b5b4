-- Jobs that run together hold a limit once: the batch of a holder. NULL: it holds the gate by itself.
ALTER TABLE limit_holders ADD COLUMN batch TEXT;

CREATE INDEX limit_holders_of_batch ON limit_holders (batch) WHERE batch IS NOT NULL;
