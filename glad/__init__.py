"""The GLAD method (ECCV 2024): tensors in, tensors out. No file, no network, no clock."""
