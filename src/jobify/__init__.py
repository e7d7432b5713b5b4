"""placeholder until the public names are in place."""
