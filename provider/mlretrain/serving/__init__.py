"""The model server for one machine, and the serving target that steers it."""
