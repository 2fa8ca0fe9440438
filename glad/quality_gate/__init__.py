"""The quality gate, which images are fit to be inspected: measures, limits, and the check of both. Free of torch."""
