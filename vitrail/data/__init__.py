"""From bytes to a batch of images and labels."""
