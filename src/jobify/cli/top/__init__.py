"""``jobify top``: a screen that shows queues, workers and running jobs, and refreshes."""
