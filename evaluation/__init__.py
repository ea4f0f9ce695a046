"""Judges a generator by its samples."""
