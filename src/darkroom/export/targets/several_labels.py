"""Exported models that predict any number of labels per image."""

from darkroom.export.label_answers import answers, batch_size, truth

__all__ = ["answers", "batch_size", "truth"]
