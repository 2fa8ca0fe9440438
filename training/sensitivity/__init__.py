"""What share of synthetic anomalies a finished model finds, by kind, size and contrast, and how sure that is."""
