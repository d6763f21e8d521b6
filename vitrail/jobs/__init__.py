"""One file a verb: a config, and a function of a config and a folder. No loop inside."""
