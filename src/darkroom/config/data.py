"""The part of ``data`` that ``prepare`` reads: where the images and their labels are."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.section import Section

Column = Annotated[str, Field(min_length=1)]

_MERGE_EXAMPLE = "{label: label}, as {Cat: cat}"


class DataSource(Section):
    """Where the images and their labels are: the part of ``data`` that ``prepare`` reads."""

    path: str = Field(
        min_length=1,
        description="a folder or an uncompressed tar of class folders, or of train, val and test folders"
        " of class folders; or with a manifest; or MNIST-style idx files; or a Hugging Face copy",
    )
    class_name: Literal["top", "path", "leaf"] = Field(
        description="of the nested folder a/b: its class is a (top), a/b (path) or b (leaf)"
    )
    manifest: Column | None = Field(
        description="table in path that labels the files: CSV, Parquet or JSON Lines; null: folders are"
        " the labels"
    )
    image_root: Column | None = Field(
        description="folder in path that the manifest's file paths are relative to; null: the manifest's"
        " own folder; . is path itself"
    )
    path_column: Column = Field(description="the manifest's column of file paths")
    label_column: Column = Field(description="the manifest's column of labels, taken as text")
    label_separator: Column | None = Field(
        description="what parts the labels of an image that has several, such as |, in the manifest's"
        " label column; null: an image has one label"
    )
    merge_labels: Annotated[dict[Column, Column], Field(examples=[_MERGE_EXAMPLE])] = Field(
        description="labels that become one class, as {Cat: cat, kitten: cat}; labels that only look"
        " alike and are different classes are mapped to themselves, as {a: a, A: A}; {} none"
    )
    split_column: Column | None = Field(
        description="the manifest's column that says train, val, test or nothing; null: none"
    )
    group_column: Column | None = Field(
        description="the manifest's column of what must not be split (patient, scene); null: none"
    )
    group_pattern: Column | None = Field(
        description="regular expression (RE2) that is searched in each path below data.path; what its"
        " groups, or the group named group, match must not be split, as ^(.*)_frame; null: none"
    )
    weight_column: Column | None = Field(
        description="the manifest's column of weights in the training loss; null: all count the same"
    )

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        for option in ("label_separator", "image_root"):
            value = getattr(self, option)
            if value is not None and self.manifest is None:
                does = (
                    "parts labels of" if option == "label_separator" else "is a folder of the paths in"
                )
                yield (
                    f"data.{option}",
                    f"{value!r} {does} a manifest, but data.manifest is null; set both or none",
                )
        if self.image_root is not None and (advice := self._stray_root(self.image_root)):
            yield "data.image_root", f"{self.image_root!r} is not a folder in data.path; {advice}"
        if self.group_pattern is not None and self.group_column is not None:
            yield (
                "data.group_pattern",
                f"{self.group_pattern!r} names groups, and so does data.group_column"
                f" {self.group_column!r}; set one of them to null",
            )
        for label, target in self.merge_labels.items():
            if problem := self._mistaken_merge(label, target):
                yield "data.merge_labels", problem

    def _stray_root(self, root: str) -> str:
        """Returns what to do about an ``image_root`` that is not inside ``path``, else nothing."""
        parts = root.replace("\\", "/").split("/")
        path = self.path.replace("\\", "/").rstrip("/")
        if f"{root.rstrip('/')}/".startswith(f"{path}/"):
            inside = root.rstrip("/")[len(path) :].strip("/") or "."
            return f"it is relative to data.path, so write {inside}"
        if root.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", root):
            return (
                "DVC follows data.path alone, so the images must lie in it: set data.path to a folder"
                " that holds manifest and images, and data.image_root to the folder of the images in it"
            )
        return ""

    def _mistaken_merge(self, label: str, target: str) -> str:
        """Returns what is wrong with merging ``label`` into ``target``, or nothing."""
        for name in (label, target):
            if name != name.strip() or not name.strip():
                return f"{name!r} has blanks around it, and labels are read without them; leave them out"
        if self.label_separator is not None and self.label_separator in label + "\n" + target:
            return (
                f"{label!r} or {target!r} holds data.label_separator {self.label_separator!r}; name"
                " single labels"
            )
        onward = self.merge_labels.get(target, target)
        if onward != target:
            if onward == label:
                return (
                    f"{label!r} and {target!r} are merged into each other; keep one of the two entries"
                )
            return (
                f"{label!r} is merged into {target!r}, which is merged into {onward!r}; map both to one"
            )
        return ""
