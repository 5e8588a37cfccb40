"""To how many digits scores are rounded."""

DIGITS = 6
"""The last digits of a sum of floats depend on its order, and so on the number of threads."""
