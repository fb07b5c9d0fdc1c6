"""Policies over time: when to retrain. Pure state machines."""
