"""Bad and odd files, straight to the decoder: outcomes, pixels, memory; and what noise makes of it."""

import hashlib
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import (
    Case,
    adam7,
    bmp,
    encoded,
    exif,
    levels,
    make_corpus,
    picture,
    png,
)
from effort import at_least
from PIL import Image

from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import Header, PixelLayout, decode, read_header

# pytest sets aside the filters that decode.py installs
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("corpus") / "files"
    return folder, make_corpus(folder)


def files(corpus: tuple[Path, list[Case]], *outcomes: str) -> Iterator[tuple[Case, bytes]]:
    """Yields the cases that reach the decoder; with ``outcomes`` those of them, TIFF allowed."""
    folder, cases = corpus
    for case in cases:
        if case.reaches_decoder and (not outcomes or case.outcome_with_tiff in outcomes):
            yield case, (folder / case.path).read_bytes()


def outcome_of(file: bytes, tiff: bool) -> str:
    try:
        decode(file, PixelLayout(8, 8, 3, "stretch"), tiff)
    except BadImage as error:
        return error.outcome if str(error) else "no reason given"
    return "used"


def test_there_are_many_kinds(corpus: tuple[Path, list[Case]]) -> None:
    _, cases = corpus
    assert len({case.kind for case in cases}) == len({case.path for case in cases}) == len(cases) >= 250


def test_the_same_files_are_made_every_time(corpus: tuple[Path, list[Case]], tmp_path: Path) -> None:
    _, cases = corpus
    again = make_corpus(tmp_path / "files")
    assert again == cases
    for case, file in files(corpus):
        assert (tmp_path / "files" / case.path).read_bytes() == file, case.kind


@pytest.mark.parametrize("tiff", [False, True])
def test_every_file_has_its_outcome(corpus: tuple[Path, list[Case]], tiff: bool) -> None:
    expected, got = {}, {}
    for case, file in files(corpus):
        expected[case.kind] = case.outcome_with_tiff if tiff else case.outcome
        got[case.kind] = outcome_of(file, tiff)
    assert got == expected


def wrong_pixels(case: Case, file: bytes) -> int:
    """Returns the largest difference from what must be seen, above the tolerance; 0: none."""
    expected, is_flat = case.expected()
    pixels = decode(file, PixelLayout(case.height, case.width, 3, "stretch"), tiff=True)[1]
    difference = np.abs(pixels - expected)[is_flat].max()
    return int(difference) if difference > case.tolerance else 0


@pytest.mark.slow
def test_every_odd_file_gives_the_pixels_that_it_shows(corpus: tuple[Path, list[Case]]) -> None:
    seen = {c.kind: wrong_pixels(c, file) for c, file in files(corpus, "used") if c.quadrants}
    assert seen == dict.fromkeys(seen, 0)
    assert len(seen) > 130


def test_other_pixels_would_be_noticed(corpus: tuple[Path, list[Case]]) -> None:
    """Turned by half a circle, every picture but those of one colour is wrong."""
    for case, file in files(corpus, "used"):
        if case.quadrants and len(set(case.quadrants)) == 4:
            turned = Case(**vars(case) | {"quadrants": case.quadrants[::-1]})
            assert wrong_pixels(turned, file), case.kind


def test_sizes_and_frames_are_as_displayed(corpus: tuple[Path, list[Case]]) -> None:
    for case, file in files(corpus, "used"):
        header, _ = decode(file, PixelLayout(8, 8, 3, "stretch"), tiff=True)
        shape = (header.width, header.height, header.animated)
        assert shape == (case.width, case.height, case.animated), case.kind
        if case.kind != "PNG, EXIF orientation behind the pixels":
            assert read_header(file, tiff=True) == header, case.kind


def test_an_open_file_has_the_header_of_its_bytes(corpus: tuple[Path, list[Case]]) -> None:
    folder, _ = corpus

    def header_of(source: Any) -> Header | tuple[str, str]:
        try:
            return read_header(source, tiff=True)
        except BadImage as error:
            return error.outcome, str(error)

    for case, file in files(corpus):
        with (folder / case.path).open("rb") as opened:
            assert header_of(opened) == header_of(file), case.kind


def test_no_two_pictures_are_the_same(corpus: tuple[Path, list[Case]]) -> None:
    """Else ``prepare`` would find duplicates, some with two labels."""
    kinds: dict[str, str] = {}
    for case, file in files(corpus, "used"):
        if case.kind != "a link inside":
            pixels = decode(file, PixelLayout(32, 32, 3, "stretch"), tiff=True)[1]
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            assert kinds.setdefault(digest, case.kind) == case.kind


DECODE_ALL = """
import re, sys
from pathlib import Path
from darkroom.decoding.bad_image import BadImage
from darkroom.decoding.decode import PixelLayout, decode
outcomes = []
for path in sys.argv[2:]:
    try:
        decode(Path(path).read_bytes(), PixelLayout(64, 64, 3, "stretch"), sys.argv[1] == "tiff")
        outcomes.append("used")
    except BadImage as error:
        outcomes.append(error.outcome)
# not ru_maxrss, which begins with what the parent had
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, *outcomes, sep=";")
"""


def decode_in_a_process(paths: list[Path], tiff: str = "") -> tuple[int, list[str], str]:
    """Returns the peak of memory in MiB, the outcomes, and what went to stderr."""
    command = [sys.executable, "-W", "always", "-c", DECODE_ALL, tiff, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, *outcomes = done.stdout.strip().split(";")
    return int(peak), outcomes, done.stderr


def test_nothing_is_printed(corpus: tuple[Path, list[Case]]) -> None:
    folder, cases = corpus
    chosen = [case for case in cases if case.reaches_decoder and not case.is_bomb]
    noisy = next(case for case in chosen if case.kind == "TIFF, 60,000 channels")  # it logs an error
    assert decode_in_a_process([folder / noisy.path], "tiff")[1:] == (["unreadable"], "")
    _, outcomes, printed = decode_in_a_process([folder / case.path for case in chosen])
    assert outcomes == [case.outcome for case in chosen]
    assert printed == ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for case in chosen:
            outcome_of((folder / case.path).read_bytes(), tiff=False)
    assert caught  # without the filters of decode.py


@pytest.mark.parametrize(("outcome", "limit"), [("too large", 200), ("", 1024)])
def test_bombs_take_little_memory(corpus: tuple[Path, list[Case]], outcome: str, limit: int) -> None:
    folder, cases = corpus
    bombs = [case for case in cases if case.is_bomb and outcome in ("", case.outcome_with_tiff)]
    peak, outcomes, _ = decode_in_a_process([folder / case.path for case in bombs], "tiff")
    assert outcomes == [case.outcome_with_tiff for case in bombs]
    assert len(bombs) > 8
    assert peak < limit


LARGEST: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "grey": ("L", "PNG", 103_000_000, {}),
    "RGB": ("RGB", "PNG", 103_000_000, {}),
    "alpha": ("RGBA", "PNG", 103_000_000, {}),
    "alpha, turned": ("RGBA", "PNG", 103_000_000, {"exif": exif(6)}),
    "16 bits": ("I;16", "PNG", 103_000_000, {}),
    "JPEG": ("RGB", "JPEG", 103_000_000, {}),
    "progressive JPEG": ("RGB", "JPEG", 103_000_000, {"progressive": True, "subsampling": 0}),
    "CMYK": ("CMYK", "JPEG", 103_000_000, {}),
    "WebP": ("RGBA", "WEBP", 50_000_000, {"method": 0}),
    "AVIF": ("RGBA", "AVIF", 50_000_000, {"speed": 10}),
}
SOME_LARGEST = dict([*LARGEST.items()][:: at_least(3, 1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "format", "num_pixels", "options"), SOME_LARGEST.values(), ids=SOME_LARGEST
)
def test_the_largest_images_take_less_than_a_gibibyte(
    tmp_path: Path, mode: str, format: str, num_pixels: int, options: dict[str, Any]
) -> None:
    image = Image.new(mode, (10_000, num_pixels // 10_000), 200)
    (tmp_path / "largest").write_bytes(encoded(image, format, **options))
    del image
    peak, outcomes, _ = decode_in_a_process([tmp_path / "largest"])
    assert outcomes == ["used"]
    assert peak < 1024


@pytest.mark.parametrize("size", [(5, 5), (9, 1), (1, 9), (6, 7), (16, 16)])
def test_a_missing_row_of_an_interlaced_png_is_noticed(size: tuple[int, int]) -> None:
    """Also where the last corner is there, which an earlier pass has written."""
    pixels = np.random.default_rng(0).integers(1, 256, (size[1], size[0], 3), dtype=np.uint8)
    layout = PixelLayout(size[1], size[0], 3, "stretch")
    rows = adam7(pixels)
    assert np.array_equal(decode(png(size, 8, 2, rows, interlaced=True), layout)[1], pixels)
    for num_rows in range(1, len(rows)):
        assert outcome_of(png(size, 8, 2, rows[:num_rows], interlaced=True), tiff=False) == "truncated"


# Noise

SMALL = (12, 8)
COLOURS = ((200, 30, 40), (20, 160, 60), (50, 60, 220), (240, 220, 70))
SMALL_PICTURE = picture(COLOURS, size=SMALL)  # type: ignore[arg-type]
OTHERS = [SMALL_PICTURE.rotate(180)]
FRAMES = {"save_all": True, "append_images": OTHERS}
WITH_ALPHA = SMALL_PICTURE.copy()
WITH_ALPHA.putalpha(100)
ROWS = [row.tobytes() for row in levels(COLOURS, SMALL)]  # type: ignore[arg-type]
SOUND = {
    "JPEG": encoded(SMALL_PICTURE, "JPEG", exif=exif(6)),
    "progressive JPEG": encoded(SMALL_PICTURE, "JPEG", progressive=True),
    "CMYK JPEG": encoded(SMALL_PICTURE.convert("CMYK"), "JPEG"),
    "PNG": encoded(SMALL_PICTURE, "PNG", exif=exif(6)),
    "palette PNG": encoded(SMALL_PICTURE.quantize(4), "PNG", transparency=bytes([9, 255, 0])),
    "16-bit PNG": png(SMALL, 16, 0, [row[:24] for row in ROWS], [(b"tRNS", b"\0\7")]),
    "interlaced PNG": png(SMALL, 8, 2, adam7(levels(COLOURS, SMALL)), interlaced=True),  # type: ignore[arg-type]
    "APNG": encoded(SMALL_PICTURE, "PNG", **FRAMES),
    "GIF": encoded(SMALL_PICTURE, "GIF"),
    "animated GIF": encoded(SMALL_PICTURE, "GIF", **FRAMES),
    "WebP": encoded(SMALL_PICTURE, "WEBP"),
    "lossless WebP": encoded(WITH_ALPHA, "WEBP", lossless=True, exif=exif(6)),
    "animated WebP": encoded(SMALL_PICTURE, "WEBP", **FRAMES),
    "BMP": encoded(SMALL_PICTURE, "BMP"),
    "palette BMP": encoded(SMALL_PICTURE.quantize(4), "BMP"),
    "RLE BMP": bmp(8, b"\x0c\1\0\0" * 8, bytes(range(64)), 8, 12, compression=1),
    "PPM": encoded(SMALL_PICTURE, "PPM"),
    "plain PPM": b"P3 4 2 255\n" + b" ".join(b"%d" % (9 * i) for i in range(23, -1, -1)),
    "16-bit PGM": b"P5 4 2 1000\n" + bytes(range(16)),
    "PFM": b"Pf\n4 4\n-1.0\n" + np.linspace(0, 1, 16).astype("<f4").tobytes(),
    "AVIF": encoded(SMALL_PICTURE, "AVIF", exif=exif(6)),
    "AVIF with alpha": encoded(WITH_ALPHA, "AVIF"),
    "TIFF": encoded(SMALL_PICTURE, "TIFF"),
    "TIFF of fractions": encoded(Image.fromarray(np.full((8, 12), 0.5, np.float32)), "TIFF"),
    "TIFF with two pages": encoded(SMALL_PICTURE, "TIFF", **FRAMES),
    "LZW TIFF": encoded(SMALL_PICTURE, "TIFF", compression="tiff_lzw"),
}
LAYOUT = PixelLayout(8, 12, 3, "stretch")


def survive(file: bytes) -> tuple[str, bytes]:
    """Decodes, and returns the outcome and the pixels; all that is not a ``BadImage`` fails."""
    start = time.monotonic()
    try:
        outcome, pixels = "used", decode(file, LAYOUT, tiff=True)[1].tobytes()
    except BadImage as error:
        outcome, pixels = error.outcome, b""
    assert time.monotonic() - start < 10  # a hang; most take less than a millisecond
    return outcome, pixels


@pytest.mark.parametrize("file", SOUND.values(), ids=SOUND)
def test_wherever_a_file_is_cut_it_is_truncated_or_whole(file: bytes) -> None:
    whole = survive(file)
    assert whole[0] == "used"
    outcomes = [survive(file[:length]) for length in range(len(file))]
    assert {outcome for outcome, _ in outcomes} <= {"empty", "not an image", "truncated", "used"}
    assert {pixels for outcome, pixels in outcomes if outcome == "used"} <= {whole[1]}
    assert [outcome for outcome, _ in outcomes].count("truncated") > 20


@pytest.mark.slow
@pytest.mark.parametrize("file", SOUND.values(), ids=SOUND)
def test_whatever_byte_changes_nothing_crashes(file: bytes) -> None:
    random = np.random.default_rng(0)
    outcomes = set()
    for position in range(len(file)):
        for change in (0x80, int(random.integers(1, 256))):
            noisy = bytearray(file)
            noisy[position] ^= change
            outcomes.add(survive(bytes(noisy))[0])
    assert len(outcomes) > 1
    assert outcomes <= {"used", "not an image", "truncated", "unreadable", "too large"}


@pytest.mark.parametrize("file", SOUND.values(), ids=SOUND)
def test_noise_behind_a_signature_does_not_crash(file: bytes) -> None:
    random = np.random.default_rng(0)
    for num_kept in range(4, 60, 2):
        survive(file[:num_kept] + random.bytes(200))


def test_pieces_of_files_do_not_crash() -> None:
    """Two files, each cut somewhere, one behind the other."""
    random = np.random.default_rng(0)
    sounds = list(SOUND.values())
    for _ in range(1500):
        first, second = (sounds[int(index)] for index in random.integers(0, len(sounds), 2))
        start, end = random.integers(0, [len(first), len(second)])
        survive(first[: int(start)] + second[int(end) :])
