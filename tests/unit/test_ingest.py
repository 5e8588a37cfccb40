"""Reading a collection: facts and pixels of the right file, and a cache that only saves work."""

import hashlib
import io
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from darkroom.collection.archive import pack
from darkroom.collection.collection import Collection, find_collection
from darkroom.config.data import DataSource
from darkroom.dataset.storage import Storage
from darkroom.decoding import decode as decode_module
from darkroom.decoding.decode import Header, PixelLayout
from darkroom.errors import UserError
from darkroom.preparation import ingest as ingest_module
from darkroom.preparation import ingest_worker
from darkroom.preparation import segments as segments_module
from darkroom.preparation.ingest import IngestedImages, ingest, read_headers
from darkroom.preparation.measures import measure

LAYOUT = PixelLayout(4, 6, 3, "stretch")
NUM_IMAGES = 30


def pixels_of(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, LAYOUT.shape, dtype=np.uint8)


def path_of(number: int) -> str:
    return f"{'cat' if number % 2 else 'dog'}/{number:03d}.png"


def png(pixels: NDArray[np.uint8]) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def make_images(root: Path, numbers: range = range(NUM_IMAGES)) -> Path:
    """Makes images that already have the layout, so that their pixels are known."""
    for number in numbers:
        (root / path_of(number)).parent.mkdir(parents=True, exist_ok=True)
        (root / path_of(number)).write_bytes(png(pixels_of(number)))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_images(tmp_path / "images")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "CHUNK_FILES", 4)


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a collection is, it goes to worker processes, if there are several."""
    monkeypatch.setattr(ingest_module, "SERIAL_FILES", 0)


def collect(root: Path, cache: Path) -> Collection:
    source = DataSource(
        path=str(root),
        class_name="top",
        manifest=None,
        path_column="path",
        label_column="label",
        label_separator=None,
        split_column=None,
        group_column=None,
        weight_column=None,
        group_pattern=None,
        merge_labels={},
        table=None,
        columns={},
        image_root=None,
        slice_columns="auto",
        masks="auto",
        mask_column=None,
        classes_file=None,
        void="void",
    )
    return find_collection(source, cache)


@dataclass
class Read:
    """What ``ingest`` returned, in memory."""

    paths: list[str]
    facts: list[dict[str, Any]]
    pixels: list[NDArray[np.uint8] | None]
    images: IngestedImages
    num_done: list[int] = field(default_factory=list)

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Read)
        pairs = zip(self.pixels, other.pixels, strict=True)
        return (
            self.paths == other.paths
            and self.facts == other.facts
            and all(np.array_equal(a, b) if a is not None else b is None for a, b in pairs)
        )

    def fact(self, path: str) -> dict[str, Any]:
        return self.facts[self.paths.index(path)]


def read(
    root: Path,
    cache: Path,
    workers: int = 1,
    storage: Storage = "decoded",
    layout: PixelLayout = LAYOUT,
    tiff: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Read:
    """Lists and reads the images below ``root``; ``between`` is called between the two."""
    collection = collect(root, cache)
    between()
    done: list[int] = []
    images = ingest(collection, layout, storage, tiff, cache, workers, done.append)
    paths = [entry.path for entry in collection.rows() if entry.outcome is None]
    assert len(images) == len(paths) == sum(done) == collection.num_to_read
    facts = images.facts(np.arange(len(images))).to_pylist()
    usable = [index for index, fact in enumerate(facts) if fact["outcome"] == "used"]
    pixels: list[NDArray[np.uint8] | None] = [None] * len(images)
    for index, image in zip(usable, images.pixels(np.array(usable, np.int64)), strict=True):
        pixels[index] = image
    return Read(paths, facts, pixels, images, done)


def make_bad_files(root: Path) -> None:
    """Some in the middle of a chunk, some at its ends, and one whole chunk of them."""
    (root / path_of(3)).write_bytes(b"")
    (root / path_of(8)).write_text("no pixels, but words")
    for number in (1, 5, 17, 21, 23, 25, 27, 29):
        whole = (root / path_of(number)).read_bytes()
        (root / path_of(number)).write_bytes(whole[: len(whole) // 2])


# What is read

ONE_OR_TWO_WORKERS = pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])


@pytest.mark.parametrize(
    ("workers", "storage"),
    [
        (1, "decoded"),
        (1, "encoded"),
        (2, "decoded"),
        pytest.param(4, "encoded", marks=pytest.mark.slow),
    ],
)
def test_each_file_has_its_own_facts_and_pixels_for_any_number_of_workers(
    root: Path, tmp_path: Path, in_processes: None, workers: int, storage: Storage
) -> None:
    make_bad_files(root)
    found = read(root, tmp_path / "cache", workers, storage)
    assert found.paths == sorted(map(path_of, range(NUM_IMAGES)))
    for path, fact, pixels in zip(found.paths, found.facts, found.pixels, strict=True):
        number = int(Path(path).stem)
        content = (root / path).read_bytes()
        assert fact["file_sha256"] == hashlib.sha256(content).digest()
        if pixels is None:
            kinds = {3: "empty", 8: "not an image"}
            assert fact["outcome"] == kinds.get(number, "truncated")
            assert fact["reason"]
            rest = set(fact) - {"file_sha256", "outcome", "reason"}
            assert {fact[name] for name in rest} == {None}
        else:
            assert number not in (1, 3, 5, 8, 17, 21, 23, 25, 27, 29)
            assert np.array_equal(pixels, pixels_of(number))
            measured = measure(pixels_of(number)[None])
            assert fact == {
                "file_sha256": fact["file_sha256"],
                "outcome": "used",
                "reason": "",
                "format": "PNG",
                "mode": "RGB",
                "width": 6,
                "height": 4,
                "animated": False,
                "pixel_sha256": hashlib.sha256(pixels_of(number).tobytes()).digest(),
                "hash": measured.hashes[0].tobytes(),
                "brightness": measured.brightness[0],
                "sharpness": measured.sharpness[0],
            }
    assert sum(pixels is None for pixels in found.pixels) == 10


def test_facts_are_those_that_pillow_sees(root: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey = Image.fromarray(random.integers(0, 256, (30, 50), dtype=np.uint8))
    colour = Image.fromarray(random.integers(0, 256, (20, 60, 3), dtype=np.uint8))
    colour.save(root / "cat/a.jpg", quality=90)
    grey.save(root / "cat/b.png")
    colour.save(root / "cat/c.gif", save_all=True, append_images=[colour.rotate(180)])
    colour.save(root / "cat/d.webp", lossless=True)
    found = read(root, tmp_path / "cache", layout=PixelLayout(20, 60, 1, "stretch"))
    for name in ("a.jpg", "b.png", "c.gif", "d.webp"):
        fact = found.fact(f"cat/{name}")
        with Image.open(root / "cat" / name) as image:
            expected = (image.format, image.mode, image.width, image.height)
            animated = getattr(image, "is_animated", False)
            brightness = np.asarray(image.convert("L").resize((60, 20), Image.Resampling.BILINEAR))
        assert (fact["format"], fact["mode"], fact["width"], fact["height"]) == expected
        assert fact["animated"] == animated == (name == "c.gif")
        assert fact["brightness"] == pytest.approx(brightness.mean(), abs=1)


def test_tiff_is_read_where_asked_for(root: Path, tmp_path: Path) -> None:
    Image.fromarray(pixels_of(99)).save(root / "cat/0.tif")
    assert read(root, tmp_path / "cache").fact("cat/0.tif")["outcome"] == "not an image"
    found = read(root, tmp_path / "cache", tiff=True)
    assert found.fact("cat/0.tif")["format"] == "TIFF"
    assert np.array_equal(found.pixels[found.paths.index("cat/0.tif")], pixels_of(99))


def test_what_is_not_to_be_read_is_not_read(root: Path, tmp_path: Path) -> None:
    (root / "README").write_text("not in a class")
    (root / "cat/.DS_Store").write_text("hidden")
    found = read(root, tmp_path / "cache")
    assert found.paths == sorted(map(path_of, range(NUM_IMAGES)))
    assert {fact["outcome"] for fact in found.facts} == {"used"}


@ONE_OR_TWO_WORKERS
def test_a_file_that_vanishes_after_listing_is_missing(
    root: Path, tmp_path: Path, in_processes: None, workers: int
) -> None:
    def vanish() -> None:
        (root / path_of(4)).unlink()
        (root / path_of(9)).unlink()
        (root / path_of(9)).mkdir()

    found = read(root, tmp_path / "cache", workers, between=vanish)
    vanished = found.fact(path_of(4))
    assert (vanished["outcome"], vanished["reason"]) == ("missing", "No such file or directory")
    assert found.fact(path_of(9))["outcome"] == "unreadable"
    assert [fact["outcome"] for fact in found.facts].count("used") == NUM_IMAGES - 2
    for path, pixels in zip(found.paths, found.pixels, strict=True):
        number = int(Path(path).stem)
        assert number in (4, 9) if pixels is None else np.array_equal(pixels, pixels_of(number))
    (root / path_of(9)).rmdir()
    make_images(root)
    assert {fact["outcome"] for fact in read(root, tmp_path / "cache", workers).facts} == {"used"}


def test_a_file_of_too_many_bytes_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = max((root / path_of(number)).stat().st_size for number in range(NUM_IMAGES))
    monkeypatch.setattr(ingest_worker, "MAX_FILE_BYTES", limit)
    assert {fact["outcome"] for fact in read(root, tmp_path / "cache").facts} == {"used"}
    content = png(pixels_of(4))
    (root / path_of(4)).write_bytes(content.ljust(limit + 1, b"\0"))
    found = read(root, tmp_path / "cache")
    fact = found.fact(path_of(4))
    assert (fact["outcome"], fact["file_sha256"]) == ("too large", None)
    assert fact["reason"] == f"{limit + 1:,} bytes; at most {limit:,} are read"
    assert sum(pixels is None for pixels in found.pixels) == 1


def test_a_tar_gives_what_its_folder_gives(root: Path, tmp_path: Path) -> None:
    make_bad_files(root)
    pack(root, tmp_path / "images.tar", lambda count: None, lambda count: None)
    of_folder = read(root, tmp_path / "a")
    assert read(tmp_path / "images.tar", tmp_path / "b") == of_folder
    (root / path_of(2)).write_bytes(png(pixels_of(99)))
    assert read(root, tmp_path / "a") != of_folder


@ONE_OR_TWO_WORKERS
def test_headers_come_in_order_of_all_files_that_have_one(
    root: Path, tmp_path: Path, in_processes: None, workers: int
) -> None:
    for number in range(NUM_IMAGES):
        Image.new("RGB", (number + 1, 2)).save(root / path_of(number))
    (root / path_of(8)).write_text("words")
    collection = collect(root, tmp_path / "cache")
    (root / path_of(9)).unlink()
    done: list[int] = []
    headers = list(read_headers(collection, False, workers, done.append))
    numbers = [int(Path(entry.path).stem) for entry in collection.rows()]
    expected = [Header(n + 1, 2, "RGB", "PNG", False) for n in numbers if n not in (8, 9)]
    assert headers == expected
    assert sum(done) == NUM_IMAGES


def test_a_header_beyond_the_first_bytes_is_read(root: Path, tmp_path: Path) -> None:
    """JPEG: large metadata may come before the size of the image."""
    profile = bytes(range(256)) * 1024
    Image.new("L", (12, 5)).save(root / "cat/0.jpg", icc_profile=profile)
    content = (root / "cat/0.jpg").read_bytes()
    assert content.index(b"\xff\xc0\x00\x0b") > ingest_worker.HEADER_BYTES
    headers = list(read_headers(collect(root, tmp_path / "cache"), False, 1, lambda count: None))
    assert headers[0] == Header(12, 5, "L", "JPEG", False)
    assert len(headers) == NUM_IMAGES + 1


# The cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of each file that is decoded, in this process."""
    given: list[bytes] = []

    def noted(encoded: bytes, *options: Any) -> Any:
        given.append(encoded)
        return decode_module.decode(encoded, *options)

    monkeypatch.setattr(ingest_worker, "decode", noted)
    return given


def segments_in(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.glob("segments/*/*.arrow")}


def test_a_second_run_decodes_nothing(root: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    make_bad_files(root)
    cache = tmp_path / "cache"
    first = read(root, cache)
    segments = segments_in(cache)
    assert len(decoded) == NUM_IMAGES
    decoded.clear()
    assert read(root, cache) == first
    assert decoded == []
    assert segments_in(cache) == segments
    assert read(root, tmp_path / "another cache") == first
    assert len(decoded) == NUM_IMAGES


def test_moved_and_renamed_files_are_known(root: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    read(root, tmp_path / "cache")
    decoded.clear()
    (root / path_of(0)).rename(root / "cat/renamed.jpg")
    found = read(root.rename(tmp_path / "elsewhere"), tmp_path / "cache")
    assert decoded == []
    assert np.array_equal(found.pixels[found.paths.index("cat/renamed.jpg")], pixels_of(0))


@pytest.mark.parametrize("number", [2, NUM_IMAGES])
def test_only_what_is_new_or_changed_is_decoded(
    root: Path, tmp_path: Path, decoded: list[bytes], number: int
) -> None:
    """The changed file has the same name, and the same size and time."""
    cache, path = tmp_path / "cache", root / path_of(number)
    read(root, cache)
    decoded.clear()
    changed = png(pixels_of(number)[::-1].copy())
    if path.exists():
        status = path.stat()
        changed = changed.ljust(status.st_size, b"\0")[: status.st_size]
        path.write_bytes(changed)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
    else:
        path.write_bytes(changed)
    found = read(root, cache)
    assert decoded == [changed]
    assert found.fact(path_of(number))["file_sha256"] == hashlib.sha256(changed).digest()
    assert found == read(root, tmp_path / "clean")


def test_the_same_file_under_two_names_has_both(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / path_of(1), root / "dog/again.png")
    for _ in range(2):
        found = read(root, tmp_path / "cache")
        assert found.fact("dog/again.png") == found.fact(path_of(1))
        assert len(found.paths) == NUM_IMAGES + 1


@ONE_OR_TWO_WORKERS
def test_a_damaged_segment_is_named_and_its_images_decoded_again(
    root: Path,
    tmp_path: Path,
    in_processes: None,
    decoded: list[bytes],
    workers: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_bad_files(root)
    cache = tmp_path / "cache"
    clean = read(root, cache)
    assert capfd.readouterr().err == ""
    random = np.random.default_rng(0)
    for segment in sorted(cache.glob("segments/*/*.arrow"))[workers - 1 :: 4 * workers]:
        whole = segment.read_bytes()
        num_rows = len(pa.ipc.open_file(whole).read_all())
        rotten = bytearray(whole)
        rotten[random.integers(len(whole))] ^= 1 << random.integers(8)
        for damaged in (bytes(rotten), whole[: len(whole) // 2])[: 3 - workers]:
            decoded.clear()
            segment.write_bytes(damaged)
            assert read(root, cache, workers) == clean
            assert capfd.readouterr().err == f"{segment}: damaged; its images are decoded again\n"
            assert len(decoded) == (num_rows if workers == 1 else 0)  # the others decode elsewhere
            assert segment.read_bytes() == whole


def test_what_a_killed_run_left_half_is_not_taken(root: Path, tmp_path: Path) -> None:
    clean = read(root, tmp_path / "cache")
    [folder] = (tmp_path / "cache/segments").iterdir()
    segment = next(folder.glob("*.arrow"))
    segment.rename(folder / f"{segment.name}.1234.part")
    assert read(root, tmp_path / "cache") == clean
    assert list(folder.glob("*.part")) == []


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_leaves_what_it_had_finished(
    root: Path, tmp_path: Path, in_processes: None, decoded: list[bytes]
) -> None:
    cache = tmp_path / "cache"
    collection = collect(make_images(root, range(200)), cache)

    def kill_a_worker(count: int) -> None:
        # called again for chunks that were finished before the kill, when no worker may be left
        for worker in multiprocessing.active_children()[:1]:
            worker.kill()

    with pytest.raises(UserError, match="a worker process was killed"):
        ingest(collection, LAYOUT, "decoded", False, cache, 2, kill_a_worker)
    finished = segments_in(cache)
    assert 1 <= len(finished) < 50
    found = read(root, cache)
    assert len(decoded) <= 200 - 4 * len(finished)
    assert finished < segments_in(cache)
    assert found == read(root, tmp_path / "clean")


KILLED = """
import os, signal, sys
from pathlib import Path
from test_ingest import LAYOUT, collect, ingest_module
if __name__ == "__main__":
    ingest_module.SERIAL_FILES, ingest_module.CHUNK_FILES = 0, 4
    cache = Path(sys.argv[2])
    collection = collect(Path(sys.argv[1]), cache)
    kill = lambda count: os.kill(os.getpid(), signal.SIGKILL)
    ingest_module.ingest(collection, LAYOUT, "decoded", False, cache, 2, kill)
"""


def test_a_run_that_was_killed_is_taken_up(root: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    from support import start_python  # not above: the workers would import torch with it

    cache = tmp_path / "cache"
    make_images(root, range(200))
    process = start_python(KILLED, root, cache, cwd=tmp_path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished = segments_in(cache)
    assert 1 <= len(finished) < 50
    found = read(root, cache)
    assert len(decoded) <= 200 - 4 * len(finished)
    assert found == read(root, tmp_path / "clean")


@pytest.mark.parametrize(
    "options",
    [
        {"layout": PixelLayout(4, 5, 3, "stretch")},
        {"layout": PixelLayout(4, 6, 3, "crop")},
        {"layout": PixelLayout(4, 6, 1, "stretch")},
        {"storage": "encoded"},
        {"tiff": True},
    ],
    ids=str,
)
def test_another_layout_has_a_folder_of_its_own(
    root: Path, tmp_path: Path, decoded: list[bytes], options: dict[str, Any]
) -> None:
    cache = tmp_path / "cache"
    first = read(root, cache)
    [folder] = (cache / "segments").iterdir()
    decoded.clear()
    other = read(root, cache, **options)
    assert len(decoded) == NUM_IMAGES
    assert len(list((cache / "segments").iterdir())) == 2
    other.images.remove_other_segments()
    assert not folder.exists()
    assert len(list((cache / "segments").iterdir())) == 1
    decoded.clear()
    assert read(root, cache, **options) == other
    assert decoded == []
    assert read(root, cache) == first
    assert len(decoded) == NUM_IMAGES


def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pass


def other_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ingest_module, "decoder_version", lambda: "pil=99.0")


def other_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = Path(str(decode_module.__file__)).read_text()
    (tmp_path / "decode.py").write_text(source + "\n")
    monkeypatch.setattr(decode_module, "__file__", str(tmp_path / "decode.py"))


def other_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    schema = ingest_module.SCHEMA
    schema = schema.set(schema.get_field_index("width"), pa.field("width", pa.int64()))
    for module in (ingest_module, ingest_worker, segments_module):
        monkeypatch.setattr(module, "SCHEMA", schema)


@pytest.mark.parametrize(
    ("change", "num_decoded"),
    [(nothing, 0), (other_libraries, NUM_IMAGES), (other_code, NUM_IMAGES), (other_columns, NUM_IMAGES)],
)
def test_another_decoder_takes_nothing_of_this_one(
    root: Path,
    tmp_path: Path,
    decoded: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[..., None],
    num_decoded: int,
) -> None:
    first = read(root, tmp_path / "cache")
    decoded.clear()
    change(monkeypatch, tmp_path)
    assert read(root, tmp_path / "cache") == first
    assert len(decoded) == num_decoded


def test_segments_of_images_that_are_gone_are_removed(
    root: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    cache = tmp_path / "cache"
    read(root, cache).images.remove_other_segments()
    whole = segments_in(cache)
    assert len(whole) == 8  # thirty files in chunks of four
    shutil.rmtree(root)
    make_images(root, range(3, 12))
    some = read(root, cache)
    some.images.remove_other_segments()
    assert segments_in(cache) < whole
    decoded.clear()
    assert read(root, cache) == some
    assert decoded == []


def test_the_cache_may_be_deleted(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "some" / ".darkroom"
    first = read(root, cache)
    shutil.rmtree(cache)
    assert read(root, cache) == first
    shutil.rmtree(cache)  # while it is mapped
    assert np.array_equal(first.images.pixels(np.array([0])), [first.pixels[0]])


def test_few_files_are_read_in_this_process(root: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    read(root, tmp_path / "a", workers=4)
    assert len(decoded) == NUM_IMAGES


def test_large_images_come_in_smaller_chunks(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_bytes = int(np.prod(LAYOUT.shape))
    for num_bytes, num_segments in ((2 * image_bytes, 15), (image_bytes - 1, 30), (10**9, 8)):
        monkeypatch.setattr(ingest_module, "CHUNK_BYTES", num_bytes)
        cache = tmp_path / str(num_bytes)
        assert len(read(root, cache).num_done) == num_segments
        assert len(segments_in(cache)) == num_segments
