"""Notifiers for drift, approval, promotion, rejection, roll-back and failure."""
