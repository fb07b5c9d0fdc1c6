"""Scoring in batches: who is to score, what they have scored, and how it appears."""
