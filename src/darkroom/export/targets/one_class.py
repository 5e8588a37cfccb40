"""Exported models that predict one class per image."""

from darkroom.export.label_answers import answers, batch_size, truth

__all__ = ["answers", "batch_size", "truth"]
