"""Drift: profiles of data, distances between them, and the verdict on a window."""
