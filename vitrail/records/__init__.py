"""What lies in the folders that vitrail writes: a frozen dataclass for each JSON file. Imports only core."""
