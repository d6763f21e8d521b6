"""Gradient steps: loss, optimiser, schedule, step, loop, checkpoint."""
