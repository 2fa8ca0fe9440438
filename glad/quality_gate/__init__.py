"""Whether an image is fit to be inspected: measures, limits, and the check of one against the other. Free of torch."""
