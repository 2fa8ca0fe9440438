"""The report of a training: a page that a process engineer reads, the same as JSON, and the run's README."""
