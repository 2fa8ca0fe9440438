"""The middleware of every request: observability, security, body limits."""
