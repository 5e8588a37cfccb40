"""Exported models that predict any number of labels per image."""

from darkroom.export.label_answers import ExportedLabels

EXPORTED = ExportedLabels()
