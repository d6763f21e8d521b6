"""Hostile bytes by the million: parsers either read them, or refuse them with a sentence, within two seconds."""
