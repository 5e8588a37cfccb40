"""To how many digits scores are rounded."""

DIGITS = 6
"""torchmetrics divides in float32, whose seventh digit is noise."""
