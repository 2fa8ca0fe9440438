"""What the measurements share: services of their own, ledgers, processes, pictures of results."""
