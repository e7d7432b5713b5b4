"""Help for testing: a clock, a job that is only pretended, the storage contract."""
