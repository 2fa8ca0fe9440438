"""How fast engines, steps and one worker are: what a user measures on his own machine."""
