"""The part of ``data`` that ``prepare`` reads: where the images and their labels are."""

import re
from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.section import Mistakes, Section
from darkroom.inputs import ColumnKind, Input

Column = Annotated[str, Field(min_length=1)]

SliceColumns = Annotated[list[Column], Field(max_length=20, examples=["a list of columns"])]

_COLUMNS_EXAMPLE = "{column: number, category, boolean, date or ignored}"

_MERGE_EXAMPLE = "{label: class}, such as {Cat: cat}"


class DataSource(Section):
    """Where the images and their labels are: the part of ``data`` that ``prepare`` reads."""

    path: str = Field(
        min_length=1,
        description="the images, or the folder of data.table: a folder or an uncompressed tar file with"
        " one folder per class, or with train, val and test folders that hold them; or with a manifest;"
        " or MNIST-style idx files; or a downloaded Hugging Face data set",
    )
    class_name: Literal["top", "path", "leaf"] = Field(
        description="class of the images in nested folders a/b: a (top), a/b (path) or b (leaf)"
    )
    table: Column | None = Field(
        description="CSV, Parquet or JSON Lines table in data.path whose rows are classified, in place"
        " of images: a model predicts label_column from the other columns; null: images"
    )
    columns: Annotated[dict[Column, ColumnKind], Field(examples=[_COLUMNS_EXAMPLE])] = Field(
        description="what columns of data.table hold: number, category, boolean, date or ignored; what"
        " the others hold is inferred from their cells, or refused if it is not certain; {}: all are"
        " inferred"
    )
    manifest: Column | None = Field(
        description="CSV, Parquet or JSON Lines table in data.path with one row per image; null: the"
        " folders are the labels"
    )
    image_root: Column | None = Field(
        description="folder in data.path that the manifest's image paths are relative to; . is data.path"
        " itself; null: the manifest's own folder"
    )
    path_column: Column = Field(description="manifest column with the path of each image")
    label_column: Column = Field(
        description="column of the manifest or the table with the label of each image or row, as text"
    )
    label_separator: Column | None = Field(
        description="separator between the labels in the label column, such as |, if an image may have"
        " several; null: each image has one label"
    )
    masks: Literal["auto", "none"] = Field(
        description="auto: if the files are in folders images and masks, each image has the mask of the"
        " same name, or one per class, which says the class of each pixel; none: folders are classes"
        " whatever they are called"
    )
    mask_column: Column | None = Field(
        description="manifest column with the path of each image's mask, a PNG with the class of each"
        " pixel, relative to the same folder as the images; label_column is then not read; null: none"
    )
    classes_file: Column | None = Field(
        description="CSV table in data.path with the classes of masks: columns index and name, or colour"
        " (#rrggbb) and name, or r, g, b and name, or, if each class has a mask file of its own, file"
        " and name; null: 0 is background, 1 or 255 is the object"
    )
    void: Column = Field(
        description="name of the rows of classes_file whose pixels have no class; these neither train"
        " nor count"
    )
    merge_labels: Annotated[dict[Column, Column], Field(examples=[_MERGE_EXAMPLE])] = Field(
        description="labels to merge into one class, for example {Cat: cat, kitten: cat}; labels that"
        " look alike but are different classes are mapped to themselves, for example {a: a, A: A}; {}:"
        " none"
    )
    split_column: Column | None = Field(
        description="column of the manifest or the table with the split of each image or row: train,"
        " val, test or empty; null: none"
    )
    group_column: Column | None = Field(
        description="column of the manifest or the table with the group of each image or row, such as a"
        " patient or a scene; each group stays in one split; null: none"
    )
    group_pattern: Column | None = Field(
        description="regular expression (RE2) that is searched in each path below data.path; images that"
        " match with the same captures (or the same capture named group) form a group, which stays in"
        " one split, for example ^(.*)_frame; null: none"
    )
    weight_column: Column | None = Field(
        description="column of the manifest or the table with the weight of each image or row in the"
        " training loss; null: equal weights"
    )
    slice_columns: Literal["auto"] | SliceColumns = Field(
        description="further columns of the manifest or the table, such as a camera or a site; evaluate"
        " divides the test images or rows by their values; auto: the first 20 columns but ids and long"
        " text; []: none"
    )

    @property
    def input(self) -> Input:
        """What a model predicts from."""
        return "image" if self.table is None else "row"

    def mistaken_combinations(self) -> Mistakes:
        yield from self._options_of_table()
        yield from self._options_without_manifest()
        if self.image_root is not None and (advice := self._stray_root(self.image_root)):
            yield "data.image_root", f"{self.image_root!r} is not a folder in data.path; {advice}"
        yield from self._options_of_masks()
        if self.group_pattern is not None and self.group_column is not None:
            yield (
                "data.group_pattern",
                f"{self.group_pattern!r} and data.group_column {self.group_column!r} both define groups;"
                " set one of them to null",
            )
        for label, target in self.merge_labels.items():
            if problem := self._mistaken_merge(label, target):
                yield "data.merge_labels", problem

    def _options_of_table(self) -> Mistakes:
        if self.table is None:
            if self.columns:
                yield (
                    "data.columns",
                    f"{self.columns} are columns of data.table, which is null; set it, or this to {{}}",
                )
            return
        for option in ("manifest", "group_pattern", "classes_file"):
            if (value := getattr(self, option)) is not None:
                yield (
                    f"data.{option}",
                    f"{value!r} is for images, but data.table {self.table!r} has the inputs; set one of"
                    " them to null",
                )

    def _options_without_manifest(self) -> Mistakes:
        if self.slice_columns not in ("auto", []) and self.manifest is None and self.table is None:
            yield (
                "data.slice_columns",
                f"{self.slice_columns} needs a manifest, but data.manifest is null; set it, or auto",
            )
        for option in ("label_separator", "image_root", "mask_column"):
            value = getattr(self, option)
            if value is not None and self.manifest is None:
                yield (
                    f"data.{option}",
                    f"{value!r} needs a manifest, but data.manifest is null; set both or neither",
                )

    def _options_of_masks(self) -> Mistakes:
        if self.mask_column is not None:
            for option in ("label_separator", "merge_labels"):
                if value := getattr(self, option):
                    yield (
                        f"data.{option}",
                        f"{value!r} is for labels, but data.mask_column {self.mask_column!r} says that"
                        " classes belong to pixels; set one of them to null"
                        if option == "label_separator"
                        else f"{value} is for labels, but with data.mask_column {self.mask_column!r} the"
                        " classes are those of data.classes_file; set it to {}",
                    )
        elif self.classes_file is not None and (self.manifest is not None or self.masks == "none"):
            reason = "data.mask_column is null" if self.manifest is not None else "data.masks is none"
            yield (
                "data.classes_file",
                f"{self.classes_file!r} has the classes of masks, but {reason}; set it, or remove the"
                " table",
            )

    def _stray_root(self, root: str) -> str:
        """Return what to do about an ``image_root`` outside ``path``; empty if it is inside."""
        parts = root.replace("\\", "/").split("/")
        path = self.path.replace("\\", "/").rstrip("/")
        if f"{root.rstrip('/')}/".startswith(f"{path}/"):
            inside = root.rstrip("/")[len(path) :].strip("/") or "."
            return f"it is relative to data.path, so write {inside}"
        if root.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", root):
            return (
                "DVC tracks only data.path, so the images must be inside it: set data.path to a folder"
                " that contains the manifest and the images, and data.image_root to the image folder"
            )
        return ""

    def _mistaken_merge(self, label: str, target: str) -> str:
        """Return what is wrong with merging ``label`` into ``target``; empty if nothing is."""
        for name in (label, target):
            if name != name.strip() or not name.strip():
                return (
                    f"{name!r} is blank, or begins or ends with a blank, which is removed from labels"
                    " when they are read; remove the blanks here too"
                )
        if self.label_separator is not None and self.label_separator in label + "\n" + target:
            return (
                f"{label!r} or {target!r} contains data.label_separator {self.label_separator!r}; each"
                " must be a single label"
            )
        onward = self.merge_labels.get(target, target)
        if onward == target:
            return ""
        if onward == label:
            return f"{label!r} and {target!r} are merged into each other; keep one of the two entries"
        return (
            f"{label!r} is merged into {target!r}, which is merged into {onward!r}; map both to"
            f" {onward!r}"
        )
