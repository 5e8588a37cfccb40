"""The value in masks of pixels that have no class, which neither train nor count."""

VOID = 255
"""Classes are 0..254, so that a mask needs a byte per pixel."""
