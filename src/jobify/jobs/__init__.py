"""A job from its request to its result, as the user handles it."""
