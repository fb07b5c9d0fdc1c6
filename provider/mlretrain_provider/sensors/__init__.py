"""Sensors that wait for data, a champion, a healthy deployment or drift."""
