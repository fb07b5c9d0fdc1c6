"""The plan: what a pipeline becomes, as a value that several interpreters read."""
