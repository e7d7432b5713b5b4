"""A job from its request to its result, as users handle it."""
