"""The step contract and the process that runs one step on any backend."""
