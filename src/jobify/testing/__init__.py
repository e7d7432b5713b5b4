"""Help for testing: the storage contract."""
