"""What every request passes: observability, security, body limits."""
