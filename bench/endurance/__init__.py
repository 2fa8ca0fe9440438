"""Measurements of whole services: under load, over hours, through kills and upgrades."""
