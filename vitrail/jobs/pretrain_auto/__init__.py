"""Pre-training by a budget: a law fitted to runs decides the sizes, a pilot looks at the data."""
