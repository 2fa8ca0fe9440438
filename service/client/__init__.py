"""The Python client of a running service, and what is built on it: line camera and hot folder."""
