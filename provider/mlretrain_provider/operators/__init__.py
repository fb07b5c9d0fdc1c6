"""Operators, one module per concern."""
