"""Arrow shards: what is written is what is read, whatever the storage; damage is named."""

import contextlib
import hashlib
import json
import math
import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from planted import photographs

from darkroom.dataset import shard_writer
from darkroom.dataset.shard_writer import MAX_SHARDS, ShardWriter
from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage, pack_image, unpack_image
from darkroom.digests import FileDigest
from darkroom.errors import UserError

SHAPE = (3, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (10, *SHAPE), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 1])
PATHS = [f"class/Bild {index} ü.png" for index in range(10)]
WEIGHTS = np.random.default_rng(1).random(10) + 0.1


def write(
    folder: Path,
    images: NDArray[np.uint8] = IMAGES,
    storage: Storage = "decoded",
    weights: Sequence[float] | None = None,
) -> Path:
    weighted = weights is not None
    with ShardWriter(folder, images.shape[1:], len(images), storage, weighted) as writer:
        for index, image in enumerate(images):
            stored = pack_image(image, storage)
            weight = weights[index] if weights is not None else 1.0
            writer.add(stored, int(LABELS[index % 10]), PATHS[index % 10], weight)
    return folder


ARRANGEMENTS: list[tuple[int, int, Storage]] = [
    (10, 10, "decoded"),
    (10, 3, "decoded"),
    (3, 10, "decoded"),
    (4, 3, "decoded"),
    (1, 1, "decoded"),
    (10, 10, "encoded"),
    (10, 3, "encoded"),
    (4, 3, "encoded"),
]


@pytest.fixture(params=ARRANGEMENTS, ids=lambda given: "{} a shard, {} a batch, {}".format(*given))
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ten images in shards and record batches of the given sizes; the last of each are not full."""
    rows_per_shard, rows_per_batch, storage = request.param
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", rows_per_shard * IMAGES[0].nbytes)
    monkeypatch.setattr(shard_writer, "BATCH_BYTES", rows_per_batch * IMAGES[0].nbytes)
    folder = write(tmp_path / "train", storage=storage, weights=WEIGHTS.tolist())
    rows = [[batch.num_rows for batch in batches] for batches in read_alone(folder)]
    assert [sum(shard) for shard in rows] == cut(10, rows_per_shard)
    assert rows == [cut(shard, rows_per_batch) for shard in cut(10, rows_per_shard)]
    return folder


def cut(whole: int, piece: int) -> list[int]:
    return [min(piece, whole - start) for start in range(0, whole, piece)]


def read_alone(folder: Path) -> list[list[pa.RecordBatch]]:
    """The record batches of each shard, read with pyarrow alone."""
    readers = [pa.ipc.open_file(pa.OSFile(str(file))) for file in sorted(folder.iterdir())]
    return [[reader.get_batch(i) for i in range(reader.num_record_batches)] for reader in readers]


def test_pixels_labels_paths_and_weights_come_back(folder: Path) -> None:
    shards = Shards(folder)
    assert len(shards) == 10
    assert shards.shape == SHAPE
    assert np.array_equal(shards.gather(np.arange(10)), IMAGES)
    assert np.array_equal(shards.labels, LABELS)
    assert shards.labels.dtype == np.int64
    assert shards.paths == PATHS
    assert shards.weights is not None
    assert shards.weights.dtype == np.float64
    assert np.array_equal(shards.weights, WEIGHTS)


def test_a_collection_without_weights_has_no_column_for_them(tmp_path: Path) -> None:
    assert Shards(write(tmp_path / "train")).weights is None
    [[batch]] = read_alone(tmp_path / "train")
    assert batch.schema.names == ["image", "label", "path"]


@pytest.mark.parametrize(
    ("storage", "weighted", "digest"),
    [
        ("decoded", False, "a2bc192b9f2c2e30b1c3551a4b60fa35987a3942938325bee775f583f93f2860"),
        ("decoded", True, "fbdaecebd936e19be3108fd4f9d351254c1b15f8d929dee68208f82b1b0fa76e"),
        ("encoded", False, "05803c434e3b7794fd27a6ccf1380cd8dbe5df5790e129269aa93a2ccc0b844c"),
        ("encoded", True, "692660a6d928fb901f197ff57111686f5b9ae57a5a7d063ace62fedbdb7a40bb"),
    ],
)
def test_shards_of_one_label_an_image_have_the_bytes_from_before_there_were_several(
    tmp_path: Path, storage: Storage, weighted: bool, digest: str
) -> None:
    weights = WEIGHTS.tolist() if weighted else None
    [shard] = write(tmp_path / "train", storage=storage, weights=weights).iterdir()
    assert hashlib.sha256(shard.read_bytes()).hexdigest() == digest
    assert Shards(tmp_path / "train").target == "one_class"


LABEL_SETS = [[0], [], [1, 3], [0, 1, 2, 3], [3], [], [2], [1], [0, 3], []]


def write_sets(folder: Path, label_sets: list[list[int]] = LABEL_SETS) -> Path:
    with ShardWriter(folder, SHAPE, 10, weighted=True, target="several_labels", num_classes=4) as writer:
        for index, image in enumerate(IMAGES):
            writer.add(image, label_sets[index], PATHS[index], WEIGHTS[index])
    return folder


@pytest.mark.parametrize("rows_per_batch", [10, 3, 1])
def test_several_labels_an_image_come_back_as_a_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_batch: int
) -> None:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 4 * IMAGES[0].nbytes)
    monkeypatch.setattr(shard_writer, "BATCH_BYTES", rows_per_batch * IMAGES[0].nbytes)
    shards = Shards(write_sets(tmp_path / "train"))
    assert shards.target == "several_labels"
    assert len(shards) == 10
    assert shards.labels.dtype == np.uint8
    expected = [[int(label in labels) for label in range(4)] for labels in LABEL_SETS]
    assert shards.labels.tolist() == expected
    assert np.array_equal(shards.gather(np.arange(10)), IMAGES)
    assert shards.weights is not None
    assert np.array_equal(shards.weights, WEIGHTS)
    assert shards.paths == PATHS
    for [batch, *_] in read_alone(tmp_path / "train"):
        kinds = [pa.binary(45), pa.list_(pa.int32()), pa.string(), pa.float64()]
        assert batch.schema.types == kinds
        assert batch.schema.names == ["image", "labels", "path", "weight"]
        assert batch.schema.metadata[b"num_classes"] == b"4"
    read = [labels for shard in read_alone(tmp_path / "train") for b in shard for labels in b["labels"]]
    assert [labels.as_py() for labels in read] == LABEL_SETS


def test_a_label_that_is_no_class_is_damage(tmp_path: Path) -> None:
    folder = write_sets(tmp_path / "train", [*LABEL_SETS[:-1], [4]])
    with pytest.raises(UserError, match=r"00000\.arrow: damaged \(.*; run `dvc repro --force prepare`"):
        Shards(folder)


def test_pyarrow_alone_reads_a_shard(folder: Path) -> None:
    batches = [batch for shard in read_alone(folder) for batch in shard]
    table = pa.Table.from_batches(batches)
    metadata = table.schema.metadata
    assert metadata[b"shape"] == b"[3, 5, 3]"
    storage: Storage = "encoded" if metadata[b"storage"] == b"encoded" else "decoded"
    kinds = {"decoded": pa.binary(45), "encoded": pa.large_binary()}
    assert table.schema.types == [kinds[storage], pa.int32(), pa.string(), pa.float64()]
    stored = table["image"].to_pylist()
    assert np.array_equal([unpack_image(each, SHAPE, storage) for each in stored], IMAGES)
    if storage == "decoded":
        assert b"".join(stored) == IMAGES.tobytes()
    assert table["label"].to_pylist() == LABELS.tolist()
    assert table["path"].to_pylist() == PATHS


@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_and_decoded_shards_hold_the_same_photographs(tmp_path: Path, channels: int) -> None:
    images = np.ascontiguousarray(photographs(30, 96)[..., :channels])
    decoded, encoded = (write(tmp_path / s, images, s) for s in ("decoded", "encoded"))
    order = np.random.default_rng(0).integers(0, 30, 50)
    assert np.array_equal(Shards(decoded).gather(order), images[order])
    for num_threads in (None, 1, 3):
        assert np.array_equal(Shards(encoded, num_threads).gather(order), images[order])
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in (decoded, encoded)]
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize(
    "indices", [range(10), [9], [0, 0, 9, 9], [7, 2, 9, 0, 3, 3], []], ids=lambda indices: str(indices)
)
def test_gather_copies_in_the_order_asked_for(folder: Path, indices: list[int]) -> None:
    chosen = np.array(indices, np.int64)
    gathered = Shards(folder).gather(chosen)
    assert gathered.dtype == np.uint8
    assert gathered.shape == (len(indices), *SHAPE)
    assert np.array_equal(gathered, IMAGES[chosen])
    gathered[...] = 0  # a copy: the shards are not touched
    assert np.array_equal(Shards(folder).gather(np.arange(10)), IMAGES)


@pytest.mark.parametrize("indices", [[10], [-1], [3, 10, 4]], ids=str)
def test_an_image_that_is_not_there_is_refused(folder: Path, indices: list[int]) -> None:
    with pytest.raises(IndexError, match="10 images"):
        Shards(folder).gather(np.array(indices))


def test_gather_fills_what_it_is_given(folder: Path) -> None:
    out = np.zeros((3, *SHAPE), np.uint8)
    assert Shards(folder).gather(np.array([8, 0, 8]), out) is out
    assert np.array_equal(out, IMAGES[[8, 0, 8]])


def test_a_pickled_copy_maps_the_files_itself(folder: Path) -> None:
    pickled = pickle.dumps(Shards(folder))
    assert len(pickled) < 500
    copy = pickle.loads(pickled)
    assert np.array_equal(copy.gather(np.arange(10)), IMAGES)
    assert copy.paths == PATHS


def test_shards_are_mapped(folder: Path) -> None:
    before = pa.total_allocated_bytes()
    shards = Shards(folder)
    assert pa.total_allocated_bytes() <= before
    assert len(shards) == 10


def test_a_writer_holds_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)

    def peak(rows_per_batch: int) -> int:
        monkeypatch.setattr(shard_writer, "BATCH_BYTES", rows_per_batch * image.nbytes)
        tracemalloc.start()
        of_arrow = 0
        with ShardWriter(tmp_path / str(rows_per_batch), image.shape, 200) as writer:
            for _ in range(200):
                writer.add(image, 0, "a/b.png")
                of_arrow = max(of_arrow, pa.total_allocated_bytes() - before)
        _, of_python = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (of_python + of_arrow) // image.nbytes

    before = pa.total_allocated_bytes()
    assert 10 <= peak(10) < 25  # a growing bytearray may be moved
    assert peak(200) >= 200


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, pa.py_buffer, np.asarray])
def test_any_contiguous_buffer_is_taken(tmp_path: Path, kind: type) -> None:
    with ShardWriter(tmp_path / "train", SHAPE, 2) as writer:
        for image in IMAGES[:2]:
            writer.add(image if kind is np.asarray else kind(image.tobytes()), 0, "")
    assert np.array_equal(Shards(tmp_path / "train").gather(np.arange(2)), IMAGES[:2])


@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_batches_are_all_images_in_order(folder: Path, size: int) -> None:
    batches = list(Shards(folder).batches(size))
    assert all(batch.flags["C_CONTIGUOUS"] for batch in batches)
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert np.array_equal(np.concatenate(batches), np.moveaxis(IMAGES, 3, 1))


def test_the_same_images_make_the_same_bytes(tmp_path: Path) -> None:
    other = IMAGES.copy()
    other[4, 1, 2, 0] ^= 1
    files = [write(tmp_path / name) / "00000.arrow" for name in ("a", "b")]
    changed = write(tmp_path / "c", other) / "00000.arrow"
    assert files[0].read_bytes() == files[1].read_bytes() != changed.read_bytes()


def test_there_are_never_more_shards_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 1)
    for num_images in (MAX_SHARDS, MAX_SHARDS + 1, 5 * MAX_SHARDS - 1):
        folder = tmp_path / str(num_images)
        with ShardWriter(folder, (1, 1, 1), num_images) as writer:
            for index in range(num_images):
                writer.add(np.full((1, 1, 1), index % 256, np.uint8), 0, "")
        assert MAX_SHARDS // 2 < len(list(folder.iterdir())) <= MAX_SHARDS
        assert Shards(folder).gather(np.arange(num_images)).ravel().tolist() == [
            index % 256 for index in range(num_images)
        ]


def test_a_writer_that_fails_leaves_no_half_shard(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), ShardWriter(tmp_path / "train", SHAPE, 10) as writer:
        writer.add(IMAGES[0], 0, "")
        raise KeyboardInterrupt
    assert list((tmp_path / "train").iterdir()) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_shards_is_refused(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "val").mkdir()
    with pytest.raises(UserError) as refused:
        Shards(tmp_path / "val")
    assert str(refused.value) == f"{tmp_path}/val: contains no shards; run `dvc repro prepare`"


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        Shards(folder)
    return str(refused.value)


def test_a_shard_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    [file] = write(tmp_path / "train").iterdir()
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        message = refusal(tmp_path / "train")
        assert message.startswith(f"{file}: damaged (")
        assert message.endswith("); run `dvc repro --force prepare`")


def test_one_damaged_shard_among_good_ones_is_named(folder: Path) -> None:
    *_, last = sorted(folder.iterdir())
    last.write_bytes(b"not Arrow at all" * 100)
    assert refusal(folder).startswith(f"{last}: damaged (")


def test_rot_in_the_footer_is_refused_and_named(tmp_path: Path) -> None:
    """Arrow's file ends with the footer, its length in four bytes, and ``ARROW1``."""
    [file] = write(tmp_path / "train").iterdir()
    rotten = bytearray(file.read_bytes())
    footer_bytes = int.from_bytes(rotten[-10:-6], "little")
    rotten[-10 - footer_bytes] ^= 0x55
    file.write_bytes(rotten)
    assert refusal(tmp_path / "train").startswith(f"{file}: damaged (")


@pytest.mark.parametrize("size", [32, 96])  # decoded by one thread, and by several
def test_an_image_that_cannot_be_decoded_is_refused_and_its_file_named(
    tmp_path: Path, size: int
) -> None:
    [file] = write(tmp_path / "train", photographs(3, size), "encoded").iterdir()
    stored = file.read_bytes()
    start = stored.rindex(b"WEBPVP8L")
    file.write_bytes(stored[:start] + bytes(8) + stored[start + 8 :])
    shards = Shards(tmp_path / "train")
    assert shards.gather(np.arange(2)).shape == (2, size, size, 3)
    with pytest.raises(UserError) as refused:
        shards.gather(np.arange(3))
    assert str(refused.value).startswith(f"{file}: damaged (")
    assert str(refused.value).endswith("); run `dvc repro --force prepare`")


def write_rows(file: Path, shape: tuple[int, int, int] = SHAPE, **columns: pa.Array) -> None:
    """Writes a shard of images of zeros as pyarrow does, whatever its labels and weights are."""
    [several] = [columns["labels"]] if "labels" in columns else [None]
    metadata = {"shape": json.dumps(shape), "storage": "decoded"}
    metadata |= {"num_classes": "3"} if several is not None else {}
    number = len(next(iter(columns.values())))
    images = pa.array([bytes(int(np.prod(shape)))] * number, pa.binary(int(np.prod(shape))))
    table = pa.table({"image": images, "path": pa.array(["a.png"] * number), **columns})
    file.parent.mkdir(exist_ok=True)
    with pa.ipc.new_file(file, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table)


INT = pa.int32()
WRONG_ROWS = {
    "a negative label": ({"label": pa.array([0, -1], INT)}, "label -1; allowed are 0 to 2"),
    "a label too high": ({"label": pa.array([3, 0], INT)}, "label 3; allowed are 0 to 2"),
    "a negative one of several": ({"labels": pa.array([[0], [-1]], pa.list_(INT))}, "label -1"),
    "one of several too high": ({"labels": pa.array([[0, 3], []], pa.list_(INT))}, "label 3"),
    "one of several twice": ({"labels": pa.array([[1, 1], []], pa.list_(INT))}, "a label twice"),
    "a weight of zero": ({"label": pa.array([0], INT), "weight": pa.array([0.0])}, "weight 0.0"),
    "a negative weight": ({"label": pa.array([0], INT), "weight": pa.array([-1.0])}, "weight -1.0"),
    "no number": ({"label": pa.array([0], INT), "weight": pa.array([math.nan])}, "weight nan"),
    "infinite": ({"label": pa.array([0], INT), "weight": pa.array([math.inf])}, "weight inf"),
}


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_labels_and_weights_out_of_range_are_refused_by_name(tmp_path: Path, case: str) -> None:
    columns, problem = WRONG_ROWS[case]
    file = tmp_path / "train" / "00000.arrow"
    write_rows(file, **columns)
    with pytest.raises(UserError) as refused:
        Shards(tmp_path / "train", num_classes=3)
    assert str(refused.value).startswith(f"{file}: damaged ({problem}") or problem in str(refused.value)


def test_labels_within_the_range_are_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "one" / "00000.arrow", label=pa.array([0, 2], INT), weight=pa.array([1e-9, 2]))
    assert Shards(tmp_path / "one", num_classes=3).labels.tolist() == [0, 2]
    write_rows(tmp_path / "several" / "00000.arrow", labels=pa.array([[0, 2], []], pa.list_(INT)))
    assert Shards(tmp_path / "several", num_classes=3).labels.tolist() == [[1, 0, 1], [0, 0, 0]]
    with pytest.raises(UserError, match="labels of 3 classes instead of 4"):
        Shards(tmp_path / "several", num_classes=4)


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "train" / "00000.arrow", label=pa.array([0, 2], INT))
    for other in ({"weight": pa.array([1.0])}, {"shape": (5, 3, 3)}):
        write_rows(tmp_path / "train" / "00001.arrow", label=pa.array([0], INT), **other)
        message = refusal(tmp_path / "train")
        assert message.startswith(f"{tmp_path}/train/00001.arrow: damaged (its kind of images or labels")


@pytest.mark.parametrize("end", [-1, 10**9])
def test_offsets_of_encoded_images_beyond_the_shard_are_refused(tmp_path: Path, end: int) -> None:
    """Such offsets would read another image's bytes, or none."""
    [file] = write(tmp_path / "train", photographs(3, 96), "encoded").iterdir()
    content = file.read_bytes()
    [batch] = read_alone(tmp_path / "train")[0]
    offsets = np.frombuffer(batch["image"].buffers()[1], np.int64)
    place = content.index(offsets.tobytes()) + 8
    file.write_bytes(content[:place] + np.int64(end).tobytes() + content[place + 8 :])
    assert refusal(tmp_path / "train").startswith(f"{file}: damaged (")


def test_the_writer_knows_the_digest_of_each_file(folder: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "again", SHAPE, 10) as writer:
        for index, image in enumerate(IMAGES):
            writer.add(image.tobytes(), int(LABELS[index]), PATHS[index])
    files = sorted((tmp_path / "again").iterdir())
    assert writer.digests == {file.name: FileDigest.of(file) for file in files}
    for file in files:
        content = file.read_bytes()
        expected = FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        assert writer.digests[file.name] == expected
