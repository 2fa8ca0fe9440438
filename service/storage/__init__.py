"""Where images and pictures lie: a local folder or an object store, behind a circuit breaker."""
