"""Weights from and to files, and from one model into another."""
