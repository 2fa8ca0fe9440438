"""The Open Inference Protocol v2: another face of the same queue."""
