"""Synthetic anomalies on good images, for training and for calibration without defects."""
