"""Time and memory of a run before it runs."""
