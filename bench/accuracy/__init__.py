"""Measurements of accuracy: the quality gate on spoiled images, the coverage of thresholds."""
