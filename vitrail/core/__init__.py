"""Configs, run folders, seeds, devices: knows nothing of images or models."""
