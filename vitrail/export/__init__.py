"""Models that leave: graphs with preprocessing inside for other runtimes, and the proof that they answer the same."""
