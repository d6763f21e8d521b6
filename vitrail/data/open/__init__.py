"""SOURCE[@SPLIT[SLICE]] to a source."""
