"""A plain ViT trained to a bar of accuracy within a time, over several seeds: whether the bar is reached."""
