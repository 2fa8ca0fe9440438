"""One file per group of calls of the REST contract."""
