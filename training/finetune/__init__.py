"""The training loops: a module for each model, and what they share."""
