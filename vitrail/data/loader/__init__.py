"""Which examples make a batch, in which order, and who makes it."""
