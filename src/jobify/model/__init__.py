"""The values of the domain, and the pure decisions about them: statuses, rows, cron rules, retries, options."""
