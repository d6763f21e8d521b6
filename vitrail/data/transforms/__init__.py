"""Of one image, or of a whole batch at once."""
