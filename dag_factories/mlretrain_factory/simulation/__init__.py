"""A pipeline over its own history: from its files and a command line to what the kernel replays."""
