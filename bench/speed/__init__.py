"""Measurements of speed: engines, steps, serving, and the queue; users run them on their own machines."""
