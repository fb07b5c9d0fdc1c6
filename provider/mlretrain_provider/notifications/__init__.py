"""Notifiers for drift, promotion, rejection, roll-back and failure."""
