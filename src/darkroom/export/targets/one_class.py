"""Exported models that predict one class per image."""

from darkroom.export.label_answers import ExportedLabels

EXPORTED = ExportedLabels()
