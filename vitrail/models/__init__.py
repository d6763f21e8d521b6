"""From a batch of images to logits, and all that lies between."""
