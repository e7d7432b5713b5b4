"""Between the storage and its users: threads, group commit, notifications. The engine and the client share it."""
