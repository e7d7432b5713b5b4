-- What stopped a schedule notes the code that it ran, so that a release that changes it revives the schedule.

ALTER TABLE attempts ADD COLUMN code TEXT;
