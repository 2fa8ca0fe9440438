"""Networks built from a configuration and weights in diffusers' layout, without importing diffusers."""
