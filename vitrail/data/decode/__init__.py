"""Bytes to uint8 pixels."""
