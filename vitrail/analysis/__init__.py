"""A model and images in, arrays to look at out."""
