"""A file a sub-command: its options, what it says, its exit code."""
