"""The functions of `vitrail` for one's own Python code; each is a few lines over what jobs and commands use, too."""
