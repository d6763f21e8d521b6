"""What results say, in sentences: printed by commands, shown on pages."""
