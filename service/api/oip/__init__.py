"""The Open Inference Protocol v2 under `/v2`: its clients use the same queue as `/v1`."""
