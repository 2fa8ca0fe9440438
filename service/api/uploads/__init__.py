"""Uploads: how their bytes are read and decoded, and how many of them may be in memory at a time."""
