"""The path functions of the REST contract, in a file for each group of calls."""
