"""The processes of one machine: supervisor, child processes, private Redis, health and shutdown."""
