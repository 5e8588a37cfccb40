"""Hugging Face sets, made and read by ``datasets`` itself; no network is used."""

import io
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
datasets = pytest.importorskip("datasets")

from darkroom.collection.entries import Entry  # noqa: E402
from darkroom.collection.huggingface import HuggingFaceFiles, is_hugging_face  # noqa: E402
from darkroom.collection.sources import fetch_set  # noqa: E402
from darkroom.errors import UserError  # noqa: E402

NAMES = ["cat", "sea/lion", "007"]
FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]


def encoded(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=FORMATS[seed % len(FORMATS)])
    return file.getvalue()


def make_set(num_images: int, start: int = 0, names: list[str] = NAMES) -> "datasets.Dataset":
    seeds = range(start, start + num_images)
    return datasets.Dataset.from_dict(
        {
            "id": list(seeds),
            "picture": [{"bytes": encoded(seed), "path": f"{seed}.x"} for seed in seeds],
            "animal": [seed % len(names) for seed in seeds],
        },
        features=datasets.Features(
            id=datasets.Value("int64"),
            picture=datasets.Image(),
            animal=datasets.ClassLabel(names=names),
        ),
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def expected(dataset: "datasets.Dataset") -> list[tuple[bytes, str]]:
    stored = dataset.cast_column("picture", datasets.Image(decode=False))
    name_of = dataset.features["animal"].int2str
    return [(row["picture"]["bytes"], name_of(row["animal"])) for row in stored]


def images_of(files: HuggingFaceFiles, split: str | None = None) -> list[tuple[bytes, str | None]]:
    entries = [e for e in files.entries() if e.outcome is None and e.split == split]
    files = pickle.loads(pickle.dumps(files))
    return [(files.read(e.path, e.offset, e.size), e.label) for e in entries]


def test_a_saved_set_is_read_as_datasets_reads_it(folder: Path, scratch: Path) -> None:
    make_set(20).save_to_disk(folder, num_shards=3)
    assert is_hugging_face(folder)
    files = HuggingFaceFiles(folder, scratch)
    assert images_of(files) == expected(datasets.load_from_disk(folder))
    assert os.listdir(scratch) == []  # read in place
    paths = [entry.path for entry in files.entries()]
    assert len(set(paths)) == len(paths) == 22
    assert paths[7] == "data-00001-of-00003/000000"
    others = {e.path: (e.outcome, e.reason) for e in files.entries() if e.outcome}
    assert others.keys() == {"dataset_info.json", "state.json"}
    assert set(others.values()) == {("unlisted", "not one of the shards")}


def test_saved_splits_are_kept(folder: Path, scratch: Path) -> None:
    parts = {"train": make_set(6), "validation": make_set(4, 10), "test": make_set(5, 20)}
    datasets.DatasetDict(parts).save_to_disk(folder)
    assert is_hugging_face(folder)
    files = HuggingFaceFiles(folder, scratch)
    for split, name in {"train": "train", "val": "validation", "test": "test"}.items():
        assert images_of(files, split) == expected(parts[name])


def test_chosen_and_shuffled_rows_are_the_ones_read(folder: Path, scratch: Path) -> None:
    dataset = make_set(20).shuffle(seed=1).select(range(2, 9))
    dataset.save_to_disk(folder)
    assert images_of(HuggingFaceFiles(folder, scratch)) == expected(dataset)


def test_what_datasets_caches_beside_is_no_shard(folder: Path, scratch: Path) -> None:
    make_set(4).save_to_disk(folder)
    saved = datasets.load_from_disk(folder)
    saved.map(lambda row: {"id": 1})  # writes cache-*.arrow
    assert list(folder.glob("cache-*.arrow"))
    assert len(images_of(HuggingFaceFiles(folder, scratch))) == 4


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-00000-of-00002", "train-00001-of-00002"], ["train"]),
        (["train-00000-of-00001", "validation-00000-of-00001"], ["train", "val"]),
        (["data/train-00000-of-00001", "data/test-00000-of-00001"], ["test", "train"]),
        (["0000", "0001"], [None]),
    ],
)
def test_parquet_shards_are_read_as_datasets_reads_them(
    folder: Path, scratch: Path, names: list[str], splits: list[str | None]
) -> None:
    (folder / "data").mkdir(parents=True)
    parts = [make_set(5, 10 * index) for index in range(len(names))]
    for name, part in zip(names, parts, strict=True):
        part.to_parquet(folder / f"{name}.parquet", batch_size=2)
    (folder / "README.md").write_text("---\n---\n")
    assert is_hugging_face(folder)
    files = HuggingFaceFiles(folder, scratch)
    found = [image for split in splits for image in images_of(files, split)]
    assert sorted(found) == sorted(image for part in parts for image in expected(part))
    assert {e.path for e in files.entries() if e.outcome} == {"README.md"}


def test_values_are_labels_where_there_are_no_classes(folder: Path, scratch: Path) -> None:
    images = [{"bytes": encoded(seed), "path": None} for seed in range(3)]
    for values, labels in (["007", "NA", "x"], ["007", "NA", "x"]), ([7, -1, 0], ["7", "-1", "0"]):
        features = datasets.Features(
            image=datasets.Image(),
            label=datasets.Value("string" if isinstance(values[0], str) else "int64"),
            more=datasets.ClassLabel(names=["a"]),
            other=datasets.ClassLabel(names=["a"]),
        )
        columns = {"image": images, "label": values, "more": [0] * 3, "other": [0] * 3}
        path = folder / labels[0]
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(path)
        assert [label for _, label in images_of(HuggingFaceFiles(path, scratch))] == labels


def test_parquet_without_a_word_from_datasets_is_told_by_its_types(folder: Path, scratch: Path) -> None:
    folder.mkdir()
    images = [{"bytes": encoded(seed), "path": None} for seed in range(2)]
    pq.write_table(pa.table({"image": images, "label": ["a", "b"]}), folder / "images.parquet")
    assert is_hugging_face(folder)
    assert images_of(HuggingFaceFiles(folder, scratch)) == [(encoded(0), "a"), (encoded(1), "b")]


def test_rows_without_label_or_image_have_an_outcome(folder: Path, scratch: Path) -> None:
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    images = [None, {"bytes": encoded(1), "path": None}, {"bytes": encoded(2), "path": None}]
    images += [{"bytes": None, "path": "/etc/passwd"}, {"bytes": b"", "path": None}]
    folder.mkdir()
    table = pa.table({"image": images, "label": [0, None, -1, 1, 1]})
    pq.write_table(table.cast(features.arrow_schema), folder / "train.parquet")
    entries = [e for e in HuggingFaceFiles(folder, scratch).entries() if e.split]
    assert [(e.label, e.outcome, e.reason) for e in entries] == [
        ("a", "missing", "no bytes are stored"),
        (None, "unlisted", "no label"),
        (None, "unlisted", "no label"),
        ("b", "missing", "no bytes are stored"),
        ("b", None, ""),
    ]
    assert entries[4].size == 0


@pytest.mark.parametrize("name", ["labels.parquet", "cat/images.parquet"])
def test_other_folders_are_not_taken_for_a_set(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True)
    pq.write_table(pa.table({"path": ["1.png"], "label": ["a"]}), folder / name)
    assert not is_hugging_face(folder)
    (folder / "data.parquet").write_bytes(b"no Parquet")
    (folder / "state.json").write_text("{}")  # of something else
    assert not is_hugging_face(folder)


def refusal(folder: Path, scratch: Path) -> str:
    with pytest.raises(UserError) as refused:
        list(HuggingFaceFiles(folder, scratch).entries())
    return str(refused.value).replace(str(folder), "ROOT")


def test_splits_with_other_names_are_refused(folder: Path, scratch: Path) -> None:
    datasets.DatasetDict(train=make_set(3), extra=make_set(3)).save_to_disk(folder)
    assert "ROOT has a split extra; allowed are train, training, val, valid" in refusal(folder, scratch)


def test_a_set_without_one_image_and_one_label_is_refused(folder: Path, scratch: Path) -> None:
    dataset = make_set(3)
    dataset.remove_columns("animal").save_to_disk(folder / "a")
    dataset.add_column("second", [0] * 3, feature=datasets.ClassLabel(names=["x"])).save_to_disk(
        folder / "b"
    )
    dataset.remove_columns("picture").save_to_disk(folder / "c")
    assert "has the columns id, picture; exactly one must be" in refusal(folder / "a", scratch)
    assert "(there are 1 Image column and 2 ClassLabel columns)" in refusal(folder / "b", scratch)
    assert "(there are 0 Image columns and 1 ClassLabel column)" in refusal(folder / "c", scratch)


def test_missing_and_damaged_shards_are_refused(folder: Path, scratch: Path) -> None:
    make_set(30).save_to_disk(folder, num_shards=2)
    shard = folder / "data-00001-of-00002.arrow"
    whole = shard.read_bytes()
    for length in (0, 100, len(whole) // 2):
        shard.write_bytes(whole[:length])
        assert "data-00001-of-00002.arrow: cannot be read, or is damaged (" in refusal(folder, scratch)
    shard.unlink()
    assert "ROOT lacks data-00001-of-00002.arrow, which state.json names" in refusal(folder, scratch)
    (folder / "state.json").write_text("{}")
    assert "ROOT/state.json: cannot be read, or is damaged (" in refusal(folder, scratch)


def test_a_shard_elsewhere_is_not_opened(folder: Path, scratch: Path, tmp_path: Path) -> None:
    make_set(3).save_to_disk(folder)
    make_set(3).save_to_disk(tmp_path / "other")
    state = json.loads((folder / "state.json").read_text())
    for name in (
        "../other/data-00000-of-00001.arrow",
        str(tmp_path / "other/data-00000-of-00001.arrow"),
    ):
        state["_data_files"] = [{"filename": name}]
        (folder / "state.json").write_text(json.dumps(state))
        assert "lacks" in refusal(folder, scratch)


def test_compressed_buffers_are_not_taken_for_images(folder: Path, scratch: Path) -> None:
    make_set(50).save_to_disk(folder)
    shard = folder / "data-00000-of-00001.arrow"
    table = pa.ipc.open_stream(shard.read_bytes()).read_all()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(shard, table.schema, options=options) as writer:
        writer.write_table(table)
    assert "is compressed; save it with datasets' save_to_disk" in refusal(folder, scratch)


def test_images_that_lie_before_one_another_are_refused(folder: Path, scratch: Path) -> None:
    make_set(3).save_to_disk(folder)
    offsets = pa.py_buffer(np.array([0, 90, 10, 99], np.int32).tobytes())
    images = pa.Array.from_buffers(pa.binary(), 3, [None, offsets, pa.py_buffer(bytes(99))])
    names = pa.array([None] * 3, pa.string())
    image = pa.StructArray.from_arrays([images, names], ["bytes", "path"])
    batch = pa.record_batch({"image": image, "label": pa.array(["a", "b", "c"])})
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    assert "cannot be read, or is damaged (" in refusal(folder, scratch)


def test_a_damaged_parquet_shard_is_refused(folder: Path, scratch: Path) -> None:
    folder.mkdir()
    make_set(3).to_parquet(folder / "train-00000-of-00002.parquet")
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1")
    assert "train-00001-of-00002.parquet: cannot be read, or is damaged (" in refusal(folder, scratch)


class Counted:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.expected = self.done = 0

    def expect(self, num_images: int) -> None:
        self.expected += num_images

    def advance(self, num_images: int) -> None:
        self.done += num_images


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that ``datasets`` finds under the name ``animals/some``, as on the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "animals/some").mkdir(parents=True)
    return tmp_path / "animals/some"


def test_a_set_of_the_hub_is_written_as_it_is_stored(hub: Path, tmp_path: Path) -> None:
    parts = {"train": make_set(12), "validation": make_set(6, 20)}
    for name, part in parts.items():
        part.to_parquet(hub / f"{name}-00000-of-00001.parquet")
    progress = Counted()
    folder = tmp_path / "data/hf--animals--some"
    assert fetch_set("hf--animals--some", folder, progress) == 18
    assert (progress.expected, progress.done) == (18, 18)
    assert os.listdir(folder.parent) == [folder.name]  # no downloads left
    for split, name in {"train": "train", "val": "validation"}.items():
        files = sorted((folder / split).rglob("*.*"), key=lambda path: path.name)
        assert [(path.read_bytes(), path.parent.name) for path in files] == [
            (content, label.replace("/", "_")) for content, label in expected(parts[name])
        ]
        assert [path.suffix for path in files[:6]] == [
            {0: ".png", 1: ".jpg", 2: ".gif", 3: ".webp", 4: ".bmp", 5: ".tif"}[seed % 6]
            for seed in range(20 if split == "val" else 0, 26)
        ][:6]


def test_each_split_has_its_own_labels(hub: Path, tmp_path: Path) -> None:
    for split, labels in {"train": ["a", "b", "c"], "test": ["c"]}.items():
        images = [{"bytes": encoded(ord(label)), "path": None} for label in labels]
        features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
        columns = {"image": images, "label": labels}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(hub / f"{split}.parquet")
    fetch_set("hf--animals--some", tmp_path / "data/x", Counted())
    found = {
        path.parent.relative_to(tmp_path / "data/x").as_posix(): path.read_bytes()
        for path in (tmp_path / "data/x").rglob("0*")
    }
    assert found == {
        **{f"train/{label}": encoded(ord(label)) for label in "abc"},
        "test/c": encoded(ord("c")),
    }


def test_files_are_read_where_they_were_downloaded_to(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("cat", "dog"):
        (hub / "train" / label).mkdir(parents=True)
        (hub / "train" / label / "1.png").write_bytes(encoded(6 * ord(label[0])))
    with pytest.raises(UserError, match="was not downloaded"):
        fetch_set("hf--animals--some", tmp_path / "data/x", Counted())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "animals"))
    fetch_set("hf--animals--some", tmp_path / "data/y", Counted())
    files = sorted((tmp_path / "data/y").rglob("*.*"))
    assert [(path.parent.name, path.name, path.read_bytes()) for path in files] == [
        ("cat", "000000.png", encoded(6 * ord("c"))),
        ("dog", "000001.png", encoded(6 * ord("d"))),
    ]


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": "/etc/hostname"}])
def test_a_file_of_this_machine_is_not_taken_for_an_image(
    hub: Path, tmp_path: Path, image: object
) -> None:
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
    table = pa.table({"image": [{"bytes": encoded(0), "path": None}, image], "label": ["a", "b"]})
    pq.write_table(table.cast(features.arrow_schema), hub / "train.parquet")
    with pytest.raises(UserError, match="an image is missing, or was not downloaded"):
        fetch_set("hf--animals--some", tmp_path / "data/x", Counted())


def test_a_configuration_is_chosen_by_name(hub: Path, tmp_path: Path) -> None:
    for config, start in (("one", 0), ("two", 10)):
        (hub / config).mkdir()
        make_set(3, start).to_parquet(hub / config / "train.parquet")
    configs = [{"config_name": c, "data_files": f"{c}/train.parquet"} for c in ("one", "two")]
    (hub / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    fetch_set("hf--animals--some--two", tmp_path / "data/x", Counted())
    found = {path.read_bytes() for path in (tmp_path / "data/x").rglob("*.*")}
    assert found == {encoded(seed) for seed in (10, 11, 12)}
    with pytest.raises(UserError, match=r"(?s)could not be loaded .*one.*two"):
        fetch_set("hf--animals--some", tmp_path / "data/y", Counted())


@pytest.mark.parametrize("names", [["a/b", "a_b"], [".", "b"], ["..", "b"], [".hidden", "b"]])
def test_classes_that_cannot_have_a_folder_are_refused(
    hub: Path, tmp_path: Path, names: list[str]
) -> None:
    make_set(4, names=names).to_parquet(hub / "train.parquet")
    with pytest.raises(UserError, match="cannot be the name of its own folder"):
        fetch_set("hf--animals--some", tmp_path / "data/x", Counted())
    assert os.listdir(tmp_path / "data") == []


def test_images_without_a_label_are_refused_before_any_is_written(hub: Path, tmp_path: Path) -> None:
    make_set(4).to_parquet(hub / "train.parquet")
    unlabelled = (
        make_set(4)
        .remove_columns("animal")
        .add_column("animal", [-1] * 4, feature=datasets.ClassLabel(names=NAMES))
    )
    unlabelled.to_parquet(hub / "test.parquet")
    with pytest.raises(UserError, match="split test: some images have no label"):
        fetch_set("hf--animals--some", tmp_path / "data/x", Counted())
    assert os.listdir(tmp_path / "data") == []


def test_without_a_network_there_is_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"data\.fetch: hf--no--such could not be loaded .*needs a network"
    ):
        fetch_set("hf--no--such", tmp_path / "data/x", Counted())


def test_without_the_package_there_is_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'darkroom\[huggingface\]'"):
        fetch_set("hf--no--such", tmp_path / "data/x", Counted())


def test_a_file_that_shrinks_raises_an_os_error(folder: Path, scratch: Path) -> None:
    make_set(3).save_to_disk(folder)
    files = HuggingFaceFiles(folder, scratch)
    last: Entry = [entry for entry in files.entries() if entry.outcome is None][-1]
    (folder / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(OSError, match="ends within data-00000-of-00001/000002"):
        files.read(last.path, last.offset, last.size)
