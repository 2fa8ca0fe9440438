"""Whole services under load, for long, through kills and upgrades."""
