"""Versioned per-product model bundles."""
