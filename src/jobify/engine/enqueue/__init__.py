"""From a request of this process to a stored job."""
