"""Triggers for the deferrable operators and sensors."""
