"""Bytes of uploads: how many may be held in memory, and how they are decoded."""
