"""A model and images in, numbers out."""
