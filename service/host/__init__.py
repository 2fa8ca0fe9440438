"""What keeps processes running on one machine: supervisor, children, private Redis, liveness, shutdown."""
