"""What runs jobs in this process; ``engine`` assembles it."""
