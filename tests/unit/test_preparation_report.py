"""The report of prepare: what it says and shows of a data set, against tables made by hand."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from quick import quick_first

from darkroom.collection.labels import LabelSets, make_label_sets
from darkroom.dataset.info import DatasetInfo
from darkroom.preparation.curation import Duplicates
from darkroom.preparation.prepared_manifest import MANIFEST
from darkroom.preparation.remarks import remarks
from darkroom.preparation.report import MAX_CLASSES, MAX_FILES, MAX_PAIRS, write_preparation_report
from darkroom.preparation.survey import load_survey
from darkroom.reporting.samples import equal_shares, lowest, most_doubtful, spread

HOSTILE = '<script src="//evil">$5 & 日本 \'"'

DRAWING = (
    "prepared_page.draw_class_histogram",
    "report.draw_image_grid",
    "report.draw_note",
    "report.draw_pairs",
    "report.draw_sizes",
)


def draw_nothing(*given: Any) -> None:
    """Writes an empty file."""
    [path] = [value for value in given if isinstance(value, Path)]
    path.parent.mkdir(exist_ok=True)
    path.touch()


# a data set made by hand


def image_row(path: str, label: str, split: str | None = "train", **changes: Any) -> dict[str, Any]:
    """A row of the manifest for an image that could be read."""
    return {
        "path": path,
        "outcome": "used" if split else "duplicate",
        "reason": "" if split else "the same pixels as another",
        "split": split,
        "label": label,
        "file_sha256": "f" * 64,
        "pixel_sha256": "a" * 64,
        "format": "PNG",
        "mode": "L",
        "width": 8,
        "height": 8,
        "animated": False,
        "brightness": 100.0,
        "sharpness": 50.0,
        **changes,
    }


def bad_row(path: str, outcome: str, reason: str = "", label: str | None = None) -> dict[str, Any]:
    return {"path": path, "outcome": outcome, "reason": reason, "label": label}


@dataclass
class World:
    """What the stage hands over; candidate ``i`` is an image of the grey ``i``."""

    rows: list[dict[str, Any]]
    pairs: list[tuple[int, int, float]] = field(default_factory=list)
    shape: tuple[int, int, int] = (8, 8, 1)
    resize: str = "stretch"
    num_crowded: int = 0
    num_look_alikes: int = 0
    is_drawn: bool = False
    """Whether the pictures beside the page are drawn, which takes most of the time."""

    @property
    def candidates(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row.get("pixel_sha256")]

    def info(self) -> DatasetInfo:
        names = sorted({row["label"] for row in self.candidates})
        counts = {split: dict.fromkeys(names, 0) for split in ("train", "val", "test")}
        for row in self.candidates:
            if row["split"]:
                counts[row["split"]][row["label"]] += 1
        height, width, channels = self.shape
        return DatasetInfo(
            format_version=1,
            class_names=names,
            target="one_class",
            counts=counts,
            labels_per_image={split: [0, sum(of.values())] for split, of in counts.items()},
            input_size=(height, width),
            channels=channels,
            resize=self.resize,
            mean=[0.25] * channels,
            std=[0.125] * channels,
            digest="d1ge57" * 8,
        )

    def duplicates(self) -> Duplicates:
        first, second, difference = zip(*self.pairs, strict=True) if self.pairs else ((), (), ())
        return Duplicates(
            np.array(first, np.int64),
            np.array(second, np.int64),
            np.array(difference, np.float64),
            self.num_crowded,
            self.num_look_alikes,
        )

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        greys = (indices % 256).astype(np.uint8)
        return np.broadcast_to(greys[:, None, None, None], (len(greys), *self.shape))

    def write_manifest(self, path: Path) -> Path:
        columns = {name: [row.get(name) for row in self.rows] for name in MANIFEST.names}
        # in pieces, whose dictionaries differ
        pq.write_table(pa.table(columns, schema=MANIFEST), path, row_group_size=7)
        return path

    def sets(self) -> LabelSets:
        names = self.info().class_names
        return make_label_sets(names, names, None)

    def report(self, folder: Path) -> "Node":
        folder.mkdir(exist_ok=True)
        manifest = self.write_manifest(folder / "manifest.parquet")
        with pytest.MonkeyPatch.context() as patch:
            for name in () if self.is_drawn else DRAWING:
                patch.setattr(f"darkroom.preparation.{name}", draw_nothing)
            write_preparation_report(
                manifest, self.info(), self.duplicates(), self.pixels, folder / "report", self.sets()
            )
        return parse((folder / "report" / "report.html").read_text(encoding="utf-8"))

    def remarks(self, folder: Path) -> list[str]:
        info = self.info()
        survey = load_survey(self.write_manifest(folder / "manifest.parquet"), self.sets())
        return list(remarks(survey, info, self.duplicates()))


def plain(num_images: int = 60) -> World:
    """Two classes of equal size in all splits, nothing to remark."""
    splits = ("train", "train", "val", "test")
    return World(
        [
            image_row(f"{label}/{index:04d}.png", label, splits[index % 4])
            for label in ("ant", "bee")
            for index in range(num_images // 2)
        ]
    )


# the page as a browser would see it


@dataclass
class Node:
    tag: str
    attrs: dict[str, str | None]
    children: list["Node | str"] = field(default_factory=list)

    def walk(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, tag: str, css_class: str = "") -> list["Node"]:
        """Elements below with this tag, and this class if one is given."""
        return [
            node
            for node in self.walk()
            if node.tag == tag
            and (not css_class or css_class in (node.attrs.get("class") or "").split())
        ]

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(" ".join(parts).split())

    def after(self, heading: str) -> "Node":
        """The element that follows the heading whose text begins so."""
        for node in self.walk():
            elements = [child for child in node.children if isinstance(child, Node)]
            for element, following in pairwise(elements):
                if element.tag in ("h2", "h3") and element.text.startswith(heading):
                    return following
        raise LookupError(heading)

    def rows(self) -> list[list[str]]:
        """Cells of the tables below, without the tables' heads."""
        rows = [[cell.text for cell in row.all("td")] for row in self.all("tr")]
        return [row for row in rows if row]


class Tree(HTMLParser):
    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.root = Node("root", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        self._open[-1].children.append(node)
        if tag not in self.VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(html: str) -> Node:
    tree = Tree()
    tree.feed(html)
    assert tree._open == [tree.root], "something is not closed"
    return tree.root


def image_of(node: Node) -> Image.Image:
    address = node.attrs["src"] or ""
    assert address.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def greys_of(node: Node) -> list[int]:
    """The greys of the images below: which candidates they are."""
    return [image_of(image).getpixel((0, 0)) for image in node.all("img")]


# numbers


def test_headline_numbers_are_those_of_the_manifest(tmp_path: Path) -> None:
    world = World(
        [
            image_row("a/1", "a"),
            bad_row("a/2", "empty", label="a"),
            image_row("a/3", "a", "val"),
            image_row("a/4", "a", None),
            image_row("b/1", "b", "test"),
            image_row("b/2", "b", "train"),
            bad_row("c.txt", "unlisted"),
        ],
        pairs=[(1, 2, 0.0)],
    )
    page = world.report(tmp_path)
    cards = {card.all("span")[0].text: card.all("b")[0].text for card in page.all("div", "card")}
    assert cards == {
        "train": "2",
        "val": "1",
        "test": "1",
        "files found": "7",
        "files not used": "3",
        "pairs of duplicates": "1",
    }
    assert page.all("h1")[0].text == "4 images of 2 classes"
    numbers = {row[0]: row[1] for row in page.after("Numbers").rows()}
    assert numbers["prepared size"].startswith("8 high, 8 wide, grey")
    assert numbers["mean of train"].startswith("0.2500 of")
    assert numbers["standard deviation"] == "0.1250"
    assert numbers["digest"] == "d1ge57" * 8


def test_the_table_of_classes_counts_by_split(tmp_path: Path) -> None:
    splits = {"ant": "train " * 3 + "val", "bee": "test", "cat": "train val val test"}
    world = World(
        [
            image_row(f"{label}/{index}", label, split)
            for label, of_label in splits.items()
            for index, split in enumerate(of_label.split())
        ]
    )
    (table,) = (table for table in world.report(tmp_path).all("table") if "train val" in table.text)
    assert table.rows() == [
        ["ant", "3", "1", "0", "4"],
        ["bee", "0", "0", "1", "1"],
        ["cat", "1", "2", "1", "4"],
    ]
    shares = [cell.attrs["style"] for cell in table.all("td", "bar")]
    assert shares == ["--filled: 100.0%", "--filled: 25.0%", "--filled: 100.0%"]


def test_sizes_and_formats_are_counted(tmp_path: Path) -> None:
    sizes = [(30, 40)] * 3 + [(40, 30)] * 5 + [(7, 7)] * 2 + [(7, 9)] + [(8, 8)] * 3
    kinds = [("PNG", "L")] * 4 + [("JPEG", "CMYK")] * 6 + [("GIF", "P")] * 2 + [("PNG", "RGBA")] * 2
    world = World(
        [
            image_row(
                f"{i:02d}", "a", width=width, height=height, format=form, mode=mode, animated=i < 2
            )
            for i, ((width, height), (form, mode)) in enumerate(zip(sizes, kinds, strict=True))
        ]
        + [bad_row("zz", "empty")]
    )
    page = world.report(tmp_path)
    section = page.after("Sizes and formats")
    common, formats = (table.rows() for table in section.all("table"))
    assert common == [
        ["40 wide, 30 high", "5"],
        ["8 wide, 8 high", "3"],
        ["30 wide, 40 high", "3"],
        ["7 wide, 7 high", "2"],
        ["7 wide, 9 high", "1"],
    ]
    assert [(row[0], row[1].split(",")[0], row[2]) for row in formats] == [
        ("JPEG", "CMYK", "6"),
        ("PNG", "L", "4"),
        ("GIF", "P", "2"),
        ("PNG", "RGBA", "2"),
        ("animated", "only the first frame is used", "2"),
    ]
    assert "white" in formats[3][1]
    caption = section.all("figcaption")[0].text
    assert "the 14 readable images" in caption
    assert "enlarged: 2." in caption
    assert "enlarged" not in plain().report(tmp_path / "plain").text


# which images


def test_extremes_are_the_lowest_and_highest_of_the_used_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        image_row(
            f"{index:03d}",
            "a",
            (None, "train", "test")[index % 3],
            brightness=float(random.integers(0, 40)),  # with ties
            sharpness=float(random.uniform(0, 1000)),
        )
        for index in range(100)
    ]
    page = World(rows).report(tmp_path)
    used = [index for index in range(100) if rows[index]["split"]]
    for heading, column, sign in (
        ("The darkest", "brightness", 1),
        ("The brightest", "brightness", -1),
        ("The blurriest", "sharpness", 1),
    ):
        expected = sorted(used, key=lambda index: (sign * rows[index][column], index))[:12]
        shown = page.after(heading)
        assert greys_of(shown) == expected
        assert [caption.text for caption in shown.all("figcaption")] == [
            f"{rows[i][column]:.1f} {rows[i]['path']} a · {rows[i]['split']}" for i in expected
        ]


def test_samples_are_spread_over_the_used_images_of_their_class(tmp_path: Path) -> None:
    rows = [image_row(f"a/{i:03d}", "a", "train" if i % 2 else None) for i in range(48)]
    rows += [image_row(f"b/{i:03d}", "b") for i in range(5)]
    page = World(rows).report(tmp_path)
    assert greys_of(page.after("a")) == list(range(1, 48, 4))
    assert greys_of(page.after("b")) == [48, 49, 50, 51, 52]


def test_a_class_of_which_no_image_is_used_has_no_samples(tmp_path: Path) -> None:
    world = World([image_row("a", "a"), image_row("b", "b", None)])
    page = world.report(tmp_path)
    assert greys_of(page.after("a")) == [0]
    assert greys_of(page.after("b")) == []


@given(st.integers(0, 500), st.integers(1, 20))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_spread_takes_different_ones_in_order_at_equal_distances(length: int, count: int) -> None:
    taken = spread(np.arange(length), count)
    assert len(taken) == min(length, count)
    if length >= count:
        gaps = np.diff(np.append(taken, length))
        assert taken[0] == 0
        assert gaps.max() - gaps.min() <= 1
    else:
        assert taken.tolist() == list(range(length))


def test_lowest_takes_the_earlier_of_equal_values() -> None:
    assert lowest(np.array([3.0, 1.0, 2.0, 1.0, 1.0]), 4).tolist() == [1, 3, 4, 2]
    assert lowest(np.array([]), 4).tolist() == []


def test_most_doubtful_are_pairs_of_different_labels_then_large_differences() -> None:
    differences = np.array([0.01, 0.05, 0.02, 0.03, 0.05])
    same_label = np.array([False, True, False, True, True])
    assert most_doubtful(differences, same_label, 9).tolist() == [2, 0, 1, 4, 3]
    assert most_doubtful(differences, same_label, 2).tolist() == [2, 0]


@pytest.mark.slow
def test_large_images_are_shown_small_and_tiny_ones_pixel_by_pixel(tmp_path: Path) -> None:
    world = plain()
    world.shape = (400, 200, 3)
    large = world.report(tmp_path / "large").after("ant").all("img")
    assert {image_of(image).size for image in large} == {(80, 160)}
    assert not any("class" in image.attrs for image in large)
    tiny = plain().report(tmp_path / "tiny").after("ant").all("img")
    assert {(image_of(image).size, image_of(image).format) for image in tiny} == {((8, 8), "PNG")}
    assert all(image.attrs["class"] == "tiny" for image in tiny)


# duplicates


def test_pairs_are_shown_by_kind_with_what_was_done(tmp_path: Path) -> None:
    rows = [
        image_row("0", "a", None, outcome="conflicting label"),
        image_row("1", "b", None, outcome="conflicting label"),
        image_row("2", "a", "train"),
        image_row("3", "a", "test"),
        image_row("4", "b", "val"),
        image_row("5", "a", "val"),
        image_row("6", "a", "train"),
        image_row("7", "a", None),
    ]
    pairs = [(0, 1, 0.0), (2, 3, 0.04), (2, 6, 0.0), (3, 7, 0.01), (4, 5, 0.002)]
    page = World(rows, pairs).report(tmp_path)
    summary = page.after("Duplicates").text
    assert "2 pairs kept in one split" in summary
    assert "2 pairs with one or both images excluded" in summary
    assert "1 pair in different splits" in summary

    conflicts = page.after("Same pixels, different labels")
    assert greys_of(conflicts) == [0, 1]
    assert "a · excluded: conflicting label" in conflicts.text
    near = page.after("Nearly the same pixels")
    assert greys_of(near) == [4, 5, 2, 3, 3, 7]
    marks = [[mark.text for mark in figure.all("mark")] for figure in near.all("figure")]
    assert marks == [["different labels"], ["different splits"], []]
    assert [figure.all("b")[0].text for figure in near.all("figure")] == [
        "difference 0.0020",
        "difference 0.0400",
        "difference 0.0100",
    ]
    same = page.after("Same pixels, same label")
    assert greys_of(same) == [2, 6]
    assert "2 a · train" in same.text
    assert same.all("mark") == []


@pytest.mark.slow
def test_no_more_pairs_are_shown_than_told(tmp_path: Path) -> None:
    world = plain(200)
    world.pairs = [(index, index + 1, 0.001 * index) for index in range(1, 60)]
    page = world.report(tmp_path)
    shown = page.after("Nearly the same pixels")
    assert greys_of(shown)[::2] == list(range(59, 59 - MAX_PAIRS, -1))
    (heading,) = (h3 for h3 in page.all("h3") if h3.text.startswith("Nearly"))
    assert f"59 pairs, {MAX_PAIRS} shown" in heading.text


def test_without_duplicates_the_report_says_so_and_the_picture_is_there(tmp_path: Path) -> None:
    page = replace(plain(), is_drawn=True).report(tmp_path)
    assert "No two images" in page.after("Duplicates").text
    assert page.all("div", "twins") == []
    with Image.open(tmp_path / "report" / "duplicates.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**20)) > 2


# files that are not used


def test_every_file_that_is_not_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    world = plain()
    world.rows += [
        bad_row("z1", "truncated", "the bytes end", "ant"),
        bad_row("z2", "empty", "empty file", "bee"),
        bad_row("z3", "truncated", "the bytes end there", "ant"),
        bad_row("z4", "hidden"),
        image_row("z5", "bee", None),
    ]
    page = world.report(tmp_path)
    listed = {group.all("summary")[0].text: group.rows() for group in page.all("details")}
    assert listed == {
        "empty 1 file": [["z2", "bee", "empty file"]],
        "truncated 2 files": [
            ["z1", "ant", "the bytes end"],
            ["z3", "ant", "the bytes end there"],
        ],
        "duplicate 1 file": [["z5", "bee", "the same pixels as another"]],
        "hidden 1 file": [["z4", "", ""]],
    }
    assert "Every file found is used" not in page.text
    assert "Every file found is used" in plain().report(tmp_path / "plain").text


def test_a_long_list_is_cut_and_what_is_cut_is_told(tmp_path: Path) -> None:
    world = plain()
    world.rows += [bad_row(f"z{index:05d}", "hidden") for index in range(MAX_FILES + 500)]
    world.rows += [bad_row(f"zz{index}", "empty") for index in range(3)]
    page = world.report(tmp_path)
    groups = {group.all("summary")[0].text: group for group in page.all("details")}
    assert len(groups["empty 3 files"].rows()) == 3
    hidden = groups[f"hidden {MAX_FILES + 500:,} files"]
    assert [row[0] for row in hidden.rows()] == [f"z{index:05d}" for index in range(MAX_FILES - 3)]
    assert "The other 503 are in problems.csv" in hidden.text
    assert "The other" not in groups["empty 3 files"].text


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 120))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_room_is_shared_fairly_and_none_is_wasted(sizes: list[int], room: int) -> None:
    shares = equal_shares(sizes, room)
    assert sum(shares) == min(room, sum(sizes))
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert not cut or max(shares) <= min(cut) + 1


# remarks


def test_a_data_set_without_oddities_has_no_remarks(tmp_path: Path) -> None:
    world = plain(200)
    assert world.remarks(tmp_path) == []
    assert world.report(tmp_path / "page").all("ul") == []


def unbalanced(world: World) -> None:
    world.rows += [
        image_row(f"c/{index:04d}", "c", ("train", "val", "test")[index % 3]) for index in range(1001)
    ]


def small(world: World) -> None:
    world.rows += [
        image_row(f"c/{index}", "c", ("train", "val", "test")[index % 3]) for index in range(19)
    ]


def without_test(world: World) -> None:
    world.rows += [image_row(f"c/{index}", "c", ("train", "val")[index % 2]) for index in range(40)]


def unreadable(world: World) -> None:
    world.rows += [
        bad_row(f"z{index}", outcome) for index, outcome in enumerate(("empty", "missing", "hidden"))
    ]


def conflicting(world: World) -> None:
    world.pairs += [(0, 100, 0.0), (4, 8, 0.0)]


def nearly_conflicting(world: World) -> None:
    world.pairs += [(1, 101, 0.01), (4, 8, 0.01)]


def leaking(world: World) -> None:
    world.rows[7] |= {"split": None, "outcome": "duplicate"}
    world.pairs += [(0, 2, 0.01), (0, 3, 0.0), (2, 6, 0.0), (4, 7, 0.0)]


def chained(world: World) -> None:
    world.pairs += [(4 * index, 4 * index + 4, 0.01) for index in range(10)]


def chained_twice(world: World) -> None:
    """Two groups, each of a twentieth of the images, are no remark."""
    world.pairs += [(4 * i, 4 * i + 4, 0.01) for i in (*range(9), *range(10, 19))]


def crowded(world: World) -> None:
    world.num_crowded = 3


def alike(world: World) -> None:
    world.num_look_alikes = 2_538


def few_outliers(world: World) -> None:
    for index in range(10):
        world.rows[index] |= {"width": 9}


def many_outliers(world: World) -> None:
    for index in range(11):
        world.rows[index] |= {"width": 9}


def coloured(world: World) -> None:
    world.shape = (8, 8, 3)
    for index in range(10):
        world.rows[index] |= {"mode": "RGB"}


def grey_as_asked(world: World) -> None:
    coloured(world)
    world.shape = (8, 8, 1)


def many_coloured(world: World) -> None:
    coloured(world)
    world.rows[10] |= {"mode": "RGB"}


def little_to_validate(world: World) -> None:
    for row in world.rows[:200:8]:
        row["split"] = "train"
    world.rows[2]["split"] = "train"


def long_shape(world: World) -> None:
    world.rows[3] |= {"width": 17, "height": 8}
    world.rows[4] |= {"width": 100, "height": 201}
    world.rows[5] |= {"width": 16, "height": 8}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            unbalanced,
            [
                "unbalanced: c has 334 training images, ant has 50. Set train.class_weights: balanced "
                "or train.sampling: balanced, and look at macro F1"
            ],
        ),
        (
            small,
            [
                "unbalanced: ant has 50 training images, c has 7.",
                "fewer than 20 images: c (19).",
                "fewer than 10 images in val: c (6).",
                "fewer than 10 images in test: c (6).",
            ],
        ),
        (without_test, ["without an image in test: c."]),
        (unreadable, ["could not be read as images: 2."]),
        (conflicting, ["with the same pixels and different labels, one of which may be wrong: 1."]),
        (
            nearly_conflicting,
            ["nearly the same pixels and different labels, one of which may be wrong: 1."],
        ),
        (leaking, ["Pairs of duplicates in different splits: 2."]),
        (chained, ["Large group of duplicates: 11 of 200 images are connected"]),
        (chained_twice, []),
        (alike, ["look alike and differ in detail: 2,538."]),
        (few_outliers, ["not have the 8 x 8 pixels of the others: 10 of 200."]),
        (many_outliers, []),
        (coloured, ["in colour: 10 of 200."]),
        (grey_as_asked, []),
        (many_coloured, []),
        (little_to_validate, ["Images in val: 49."]),
        (crowded, ["only the 8 closest were compared: 3."]),
        (
            long_shape,
            [
                "pixels of the others: 3 of 200.",
                "one side more than twice as long as the other: 2; stretching distorts them.",
            ],
        ),
    ],
)
def test_what_is_odd_is_said(change: Callable[[World], None], said: list[str], tmp_path: Path) -> None:
    world = plain(200)
    change(world)
    found = world.remarks(tmp_path)
    assert len(found) == len(said)
    assert all(part in remark for part, remark in zip(said, found, strict=True))


def test_at_the_limits_nothing_is_said(tmp_path: Path) -> None:
    """Five times as many training images, twenty of a class, ten to measure it, fifty to validate."""
    world = plain(200)
    counts = {"train": 250, "val": 10, "test": 10}
    world.rows += [
        image_row(f"c/{split}{index:04d}", "c", split)
        for split, count in counts.items()
        for index in range(count)
    ]
    assert world.info().num_images("val") == 60
    assert world.remarks(tmp_path) == []
    world.rows.append(image_row("c/more", "c", "train"))
    assert [remark[:26] for remark in world.remarks(tmp_path)] == ["The classes are unbalanced"]
    world = plain(200)
    assert world.info().num_images("val") == 50
    for split in ("val", "test"):
        world.rows += [image_row(f"c/{split}{index}", "c", split) for index in range(9)]
    world.rows += [image_row(f"c/{index}", "c", "train") for index in range(10)]
    assert [remark.split(":")[0] for remark in world.remarks(tmp_path)] == [
        "Classes with fewer than 10 images in val",
        "Classes with fewer than 10 images in test",
    ]


def test_the_stage_is_told_what_the_page_remarks(tmp_path: Path) -> None:
    world = plain(200)
    unbalanced(world)
    manifest = world.write_manifest(tmp_path / "manifest.parquet")
    told = write_preparation_report(
        manifest, world.info(), world.duplicates(), world.pixels, tmp_path, world.sets()
    )
    [shown] = parse((tmp_path / "report.html").read_text(encoding="utf-8")).all("ul")
    assert told == [node.text for node in shown.all("li")]
    assert len(told) == 1


# the page as a whole


def hostile() -> World:
    rows = [image_row(f"{HOSTILE}/{index:02d}", HOSTILE, mode="RGBA") for index in range(20)]
    rows += [image_row(f"x/{index:02d}", "x" * 200, "test") for index in range(20)]
    rows += [bad_row(f"y/{HOSTILE}", "unreadable", f"damaged ({HOSTILE})", HOSTILE)]
    return World(rows, pairs=[(0, 1, 0.0), (1, 25, 0.02)])


def test_names_are_shown_as_they_are_and_never_as_markup(tmp_path: Path) -> None:
    page = hostile().report(tmp_path)
    assert page.all("script") == []
    name = " ".join(HOSTILE.split())
    assert [h3.text for h3 in page.all("h3")][:2] == [name, "x" * 200]
    assert page.all("details")[0].rows() == [[f"y/{name}", name, f"damaged ({name})"]]
    assert f"{name}/01 {name} · train" in page.after("Nearly the same pixels").text
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html


def test_the_page_loads_nothing_and_links_to_its_neighbours_only(tmp_path: Path) -> None:
    page = hostile().report(tmp_path)
    for node in page.walk():
        assert node.tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name in ("srcset", "data", "action", "poster", "background"):
            assert name not in node.attrs
        assert (node.attrs.get("src") or "data:").startswith("data:")
    links = {node.attrs["href"] for node in page.all("a")}
    assert {link for link in links if not link.startswith("#")} == {
        "problems.csv",
        "duplicates.csv",
        "metrics.json",
    }
    anchors = {f"#{node.attrs['id']}" for node in page.walk() if "id" in node.attrs}
    assert {link for link in links if link.startswith("#")} == anchors
    style = page.all("style")[0].text
    assert not re.search(r"url\(|@import|//", style)


@pytest.mark.slow
def test_equal_data_make_equal_bytes_and_other_data_others(tmp_path: Path) -> None:
    worlds = {"a": hostile(), "b": hostile(), "pixels": hostile(), "label": hostile()}
    pixels = worlds["pixels"].pixels
    worlds["pixels"].pixels = lambda indices: pixels(indices) ^ 1
    worlds["label"].rows[-1]["reason"] = "another"
    for name, world in worlds.items():
        world.is_drawn = True
        world.report(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a" / "report").iterdir())
    assert files == [
        "classes.png",
        "duplicates.png",
        "extremes.png",
        "report.html",
        "samples.png",
        "sizes.png",
    ]

    def differ(other: str) -> list[str]:
        content = (tmp_path / "a" / "report", tmp_path / other / "report")
        return [name for name in files if len({(folder / name).read_bytes() for folder in content}) > 1]

    assert differ("b") == []
    assert differ("pixels") == ["duplicates.png", "extremes.png", "report.html", "samples.png"]
    assert differ("label") == ["report.html"]


@pytest.mark.parametrize("num_classes", quick_first([2], [2, 10, 43, MAX_CLASSES]))
def test_every_class_has_its_row_of_samples(num_classes: int, tmp_path: Path) -> None:
    names = [f"sign {index:02d} 速度制限 {'x' * index}" for index in range(num_classes)]
    world = World([image_row(f"{name}/{i}", name, "train") for name in names for i in range(3)])
    world.is_drawn = True
    page = world.report(tmp_path)
    assert [h3.text for h3 in page.all("h3") if h3.text.startswith("sign")] == [
        " ".join(name.split()) for name in names
    ]
    assert "More of" not in page.text
    with Image.open(tmp_path / "report" / "classes.png") as image:
        assert image.width < 1100  # the page shows it without shrinking
        assert image.height > 20 * num_classes


def test_more_classes_than_tiles_are_shown_at_equal_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.preparation.report.MAX_TILES", 60)
    names = [f"class {index:03d}" for index in range(120)]
    page = World([image_row(name, name, "train") for name in names]).report(tmp_path)
    assert "one image of each of 60 classes, evenly spaced over all 120." in page.text
    tiles = [figure.text for figure in page.all("figure") if figure.text.endswith(" 1 image")]
    assert tiles == [f"{name} 1 image" for name in names[::2]]


@pytest.mark.slow
def test_a_thousand_classes_fit(tmp_path: Path) -> None:
    names = [f"class {index:04d}" for index in range(1000)]
    world = World([image_row(name, name, "train") for name in names], is_drawn=True)
    page = world.report(tmp_path)
    (table,) = (table for table in page.all("table") if "train val" in table.text)
    assert [row[0] for row in table.rows()] == names
    samples = [h3.text for h3 in page.all("h3") if h3.text.startswith("class")]
    assert samples == names[:: 1000 // MAX_CLASSES]
    assert f"More of {MAX_CLASSES} classes evenly spaced over all" in page.text
    assert "one image of each class." in page.text
    tiles = [figure.text for figure in page.all("figure") if figure.text.endswith(" 1 image")]
    assert tiles == [f"{name} 1 image" for name in names]
    (small_classes, *_) = page.all("ul")[0].all("li")
    assert small_classes.text.endswith("class 0009 (1) and 990 more.")
    for picture in (tmp_path / "report").glob("*.png"):
        with Image.open(picture) as image:
            assert max(image.size) < 5000
