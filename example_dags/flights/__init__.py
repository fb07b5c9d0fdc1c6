"""A team's own training code, as it lies beside its pipeline."""
