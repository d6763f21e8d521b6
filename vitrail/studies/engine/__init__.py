"""Plans, runs and reads any study."""
