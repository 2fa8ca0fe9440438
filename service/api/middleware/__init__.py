"""What every request passes: authentication, body limits, metrics, traces, security headers."""
