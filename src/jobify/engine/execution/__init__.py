"""From a claimed job to its stored outcome."""
