"""The plan: what a pipeline becomes, as a frozen, deterministic value."""
