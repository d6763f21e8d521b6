"""Where examples come from, a reader a file."""
