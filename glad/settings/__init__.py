"""What a bundle sets of the method: schedule, score, framing, zones, and the published presets. Free of torch."""
