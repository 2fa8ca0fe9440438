"""Parts that the measurements share: servers of their own, ledgers, samples of processes, tables."""
