"""One visible training loop per model."""
