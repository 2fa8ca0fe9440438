"""Training, calibration and the sample product; none of it is needed to serve an inspection."""
