"""Reads local copies of Hugging Face data sets in place, and loads sets of the hub."""

import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from darkroom.bounded_json import load_json
from darkroom.collection.entries import SPLIT_NAMES, Entry, Split, split_called
from darkroom.collection.folder import FolderFiles, other_files, read_part
from darkroom.errors import UserError, brief, counted, listed

_ROWS_PER_BATCH = 256

_Features = dict[str, dict[str, Any]]
"""The feature of each column in ``datasets``; its ``_type`` is ``Image``, ``ClassLabel``, ..."""


class HuggingFaceFiles:
    """The images in a folder written by ``save_to_disk``, or in Parquet shards of the hub.

    Each image is a file with its original encoding; row 7 of the first shard of train is
    ``train/data-00000-of-00001/000007``. Labels are the names of the only ``ClassLabel`` column, or the
    values of the column ``label``. Splits are those of a ``DatasetDict``, or of the names of the shards
    (``train-...``). Arrow files are memory-mapped; the package ``datasets`` is not needed.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Find the shards, and convert Parquet shards to Arrow files in ``scratch``.

        Args:
            scratch: must outlive this object and its copies in other processes.

        Raises:
            UserError: a shard is missing or damaged, a split has an unknown name, or the columns of
                image and label are ambiguous.
        """
        self.name = str(folder)
        self._folder = folder
        there = {entry.path for entry in FolderFiles(folder).entries() if entry.outcome is None}
        shards = _saved_shards(folder, there) or _parquet_shards(folder, there)
        self._used = set(shards)
        self._splits: dict[str, Split | None] = {}
        self._arrow_files: dict[str, Path] = {}
        for path, split in shards.items():
            stem = posixpath.splitext(path)[0]
            self._splits[stem] = split
            self._arrow_files[stem] = folder / path
            if path.endswith(".parquet"):
                self._arrow_files[stem] = scratch / f"{stem.replace('/', '--')}.arrow"
                _rewrite(folder / path, self._arrow_files[stem])

    def entries(self) -> Iterator[Entry]:
        """Yield the images with their labels, and the other files of the folder as ``unlisted``.

        Raises:
            UserError: a shard is damaged.
        """
        for stem, path in self._arrow_files.items():
            for index, entry in enumerate(_images(path)):
                yield replace(entry, path=f"{stem}/{index:06d}", split=self._splits[stem])
        yield from other_files(self._folder, self._used, "not one of the shards")

    def read(self, path: str, offset: int, size: int) -> bytes:
        return read_part(self._arrow_files[path.rpartition("/")[0]], path, offset, size)


def is_hugging_face(folder: Path) -> bool:
    """Return whether ``save_to_disk`` wrote ``folder``, or it contains Parquet shards of images."""
    saved = all((folder / name).is_file() for name in ("state.json", "dataset_info.json"))
    if saved or (folder / "dataset_dict.json").is_file():
        return True
    shards = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    try:
        return bool(shards) and bool(_image_columns(_features(pq.read_schema(shards[0]))))
    except (pa.ArrowException, OSError):
        return False  # perhaps a manifest, whose reader gives a better message


def _saved_shards(folder: Path, there: set[str]) -> dict[str, Split | None]:
    """Return the split of each Arrow file of ``save_to_disk``; empty for other folders."""
    states: dict[str, Split | None]
    if "dataset_dict.json" in there:
        names = _read_json(folder / "dataset_dict.json", "splits")
        states = {f"{name}/state.json": _split(folder, str(name)) for name in names}
    elif "state.json" in there:
        states = {"state.json": None}
    else:
        return {}
    shards: dict[str, Split | None] = {}
    for state, split in states.items():
        if state not in there:
            raise UserError(f"{folder} lacks {state}; save the data set again")
        for file in _read_json(folder / state, "_data_files"):
            path = posixpath.join(posixpath.dirname(state), str(file["filename"]))
            if path not in there:
                raise UserError(f"{folder} lacks {path}, which {state} names; save the data set again")
            shards[path] = split
    return shards


def _parquet_shards(folder: Path, there: set[str]) -> dict[str, Split | None]:
    names = [p for p in sorted(there) if p.endswith(".parquet") and posixpath.dirname(p) in ("", "data")]
    words = {path: posixpath.basename(path).split(".")[0].split("-")[0] for path in names}
    if not any(split_called(word) for word in words.values()):
        return dict.fromkeys(names)
    return {path: _split(folder, word) for path, word in words.items()}


def _split(folder: Path, name: str) -> Split:
    split = split_called(name)
    if split is None:
        raise UserError(
            f"{folder} has a split {listed([name])}; allowed are {', '.join(SPLIT_NAMES)}. "
            "Rename or remove it"
        )
    return split


def _read_json(path: Path, key: str) -> list[Any]:
    try:
        return list(load_json(path)[key])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read, or is damaged ({error!r})") from None


def _rewrite(parquet: Path, arrow_file: Path) -> None:
    """Copy images and labels to an Arrow file, because single images in Parquet cannot be read."""
    try:
        with pq.ParquetFile(parquet) as file:
            columns = list(_columns(_features(file.schema_arrow), str(parquet)))
            fields = [file.schema_arrow.field(column) for column in columns]
            schema = pa.schema(fields, file.schema_arrow.metadata)
            with pa.ipc.new_stream(arrow_file, schema) as writer:
                for batch in file.iter_batches(_ROWS_PER_BATCH, columns=columns):
                    writer.write_batch(batch.select(columns))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{parquet}: cannot be read, or is damaged ({brief(error)})") from None


def _images(path: Path) -> Iterator[Entry]:
    """Yield the rows of an Arrow file as entries without path, with label, offset and size."""
    try:
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
            reader = pa.ipc.open_stream(content)
            image, label = _columns(features := _features(reader.schema), str(path))
            names = features[label].get("names")
            for batch in reader:
                batch.validate(full=True)
                stored = batch.column(label).to_pylist()
                lying = _where(batch.column(image), content, path)
                for value, place in zip(stored, lying, strict=True):
                    text = _label(value, names, path)
                    if place is None:
                        yield Entry("", text, outcome="missing", reason="no bytes are stored")
                    elif text is None:
                        yield Entry("", None, outcome="unlisted", reason="no label", size=place[1])
                    else:
                        yield Entry("", text, offset=place[0], size=place[1])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read, or is damaged ({brief(error)})") from None


def _where(images: pa.Array, content: pa.Buffer, path: Path) -> Iterator[tuple[int, int] | None]:
    """Yield the offset and size of each image in ``content``; None if it has no bytes."""
    values = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
    if len(values) == 0:
        return
    _, offsets, data = values.buffers()
    width = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    limits = np.frombuffer(offsets, width)[values.offset :][: len(values) + 1].astype(np.int64)
    start = data.address - content.address if data else 0
    if not 0 <= start + limits[0] <= start + limits[-1] <= len(content):
        raise UserError(f"{path} is compressed; save it with datasets' save_to_disk")
    for valid, first, last in zip(values.is_valid(), limits[:-1], limits[1:], strict=True):
        yield (int(start + first), int(last - first)) if valid.as_py() else None


def _features(schema: pa.Schema) -> _Features:
    """Return the features that ``datasets`` wrote into the schema, or guess them from the types."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: dict(features[name]) for name in schema.names}
    except (TypeError, KeyError, ValueError):
        return {
            field.name: {"_type": "Image" if _holds_files(field.type) else "Value"} for field in schema
        }


def _holds_files(type: pa.DataType) -> bool:
    return pa.types.is_struct(type) and {field.name for field in type} == {"bytes", "path"}


def _image_columns(features: _Features) -> list[str]:
    return [name for name, feature in features.items() if feature.get("_type") == "Image"]


def _columns(features: _Features, name: str) -> tuple[str, str]:
    """Return the names of the image column and of the label column."""
    images = _image_columns(features)
    classes = [column for column, feature in features.items() if feature.get("_type") == "ClassLabel"]
    labels = classes if len(classes) == 1 else [column for column in features if column == "label"]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"{name} has the columns {listed(features)}; exactly one must be an Image, and one must be a"
            f" ClassLabel or have the name label (there are {counted(len(images), 'Image column')} and"
            f" {counted(len(classes), 'ClassLabel column')})"
        )
    return images[0], labels[0]


def _label(value: Any, names: list[str] | None, where: object) -> str | None:
    """Return a stored label as text, or None if there is none (``datasets`` stores -1)."""
    if value is None or (names is not None and value == -1):
        return None
    if names is None and isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and (names is None or 0 <= value < len(names)):
        return str(value if names is None else names[value])
    if isinstance(value, str) and names is None:
        return value
    raise UserError(f"{where}: the label {value!r} is neither a class nor text")


def load_hub_set(name: str, cache: Path) -> dict[Split, tuple[int, Iterator[tuple[bytes, str]]]]:
    """Load ``hf--OWNER--NAME`` or ``hf--OWNER--NAME--CONFIG`` with the package ``datasets``.

    Returns:
        The number of images of each split, and an iterator over the encoded images, each with its class
        as a valid folder name.

    Raises:
        UserError: the package is missing, the set cannot be loaded, or an image has no label. The
            iterators raise it if an image is missing.
    """
    try:
        import datasets  # type: ignore[import-untyped]
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        raise UserError(
            f"data.fetch: {name} needs the package datasets; run pip install 'darkroom[huggingface]'"
        ) from None
    owner, repository, config, *_ = [*name.removeprefix("hf--").split("--", 2), "", ""]
    try:
        loaded = datasets.load_dataset(
            f"{owner}/{repository}".rstrip("/"), config or None, cache_dir=str(cache)
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"data.fetch: {name} could not be loaded from the Hugging Face hub"
            f" ({error.__cause__ or error}). Downloading needs a network, once. Without one, put the"
            f" images into data/{name}/train/CLASS/ and set data.fetch: [] and data.path: data/{name}"
        ) from None
    downloads = (cache.resolve(), Path(HF_HUB_CACHE).resolve())
    label_of: dict[str, str] = {}
    found: dict[Split, tuple[int, Iterator[tuple[bytes, str]]]] = {}
    for split, dataset in loaded.items():
        where, features = f"{name}, split {split}", dataset.features.to_dict()
        image, label = _columns(features, name)
        folders = {
            value: _class_folder(_label(value, features[label].get("names"), name), label_of, where)
            for value in dataset.unique(label)
        }
        rows = dataset.select_columns([image, label]).rename_columns({image: "image", label: "label"})
        rows = rows.cast_column("image", datasets.Image(decode=False))
        found[_split(Path(name), str(split))] = len(rows), _stored(rows, folders, downloads, where)
    return found


def _stored(
    rows: Iterable[dict[str, Any]], folders: dict[Any, str], downloads: tuple[Path, ...], name: str
) -> Iterator[tuple[bytes, str]]:
    """Yield the bytes of images, stored or in downloaded files. No other file is opened."""
    for row in rows:
        image, folder = row["image"], folders[row["label"]]
        path = Path(image["path"]).resolve() if image and image["path"] else None
        if image and image["bytes"]:
            yield image["bytes"], folder
        elif path and any(path.is_relative_to(parent) for parent in downloads):
            yield path.read_bytes(), folder
        else:
            raise UserError(f"data.fetch: {name}: an image is missing, or was not downloaded ({path})")


def _class_folder(label: str | None, label_of: dict[str, str], name: str) -> str:
    """Return the folder name of a class. ``label_of`` maps the names in use to labels."""
    if label is None:
        raise UserError(f"data.fetch: {name}: some images have no label")
    folder = label.strip().replace("/", "_")
    if (
        not folder
        or folder.startswith(".")
        or "\0" in folder
        or label_of.setdefault(folder, label) != label
    ):
        raise UserError(f"data.fetch: {name}: the class {label!r} cannot be the name of its own folder")
    return folder
