"""Where a step's job runs."""
