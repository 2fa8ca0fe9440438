"""Thresholds and settings of a bundle, from good images and synthetic anomalies alone."""
