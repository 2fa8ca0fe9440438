"""Measurements, each a ratio of two things in one run. Nothing here is imported by the product."""
