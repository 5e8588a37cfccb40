"""Small classification tasks that differ, as image folders: ``{train,test}/CLASS/NUMBER.png``.

Some are cut out of public collections (CIFAR-10, CamVid, scikit-learn's digits), some are drawn here.
The images are the same every time: each task draws from generators with fixed seeds.

    python benchmarks/tasks.py FOLDER [--cifar cifar10] [--camvid camvid] [--tasks letters ...]
"""

import argparse
import colorsys
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 96
"""Of drawn images, in pixels."""

Picture = tuple[str, Image.Image]
"""A class and an image of it."""


@dataclass(frozen=True)
class Sources:
    """Where the public collections lie; None where they are not available."""

    cifar: Path | None
    """CIFAR-10 as ``{train,test}/CLASS/*``."""
    camvid: Path | None
    """CamVid as ``images/{train,test}/*.jpg``, ``masks/{train,test}/*.png`` and ``classes.csv``."""

    def has_images_of(self, task: str) -> bool:
        """Whether the collection that a task is cut out of is available; True for all others."""
        needed = {"cifar10": self.cifar, "cifar-animals": self.cifar, "materials": self.camvid}
        return task not in needed or needed[task] is not None


def from_cifar(
    sources: Sources,
    split: str,
    random: Generator,
    classes: Sequence[str],
    num_train: int,
    num_test: int,
) -> Iterator[Picture]:
    """Draws images of 32 x 32 pixels, the same number per class."""
    assert sources.cifar is not None
    number = num_train if split == "train" else num_test
    folders = sorted(path for path in (sources.cifar / split).iterdir() if path.is_dir())
    for folder in folders:
        if not classes or folder.name in classes:
            for path in random.choice(sorted(folder.iterdir()), number, replace=False):
                yield folder.name, Image.open(path).convert("RGB")


def digits(split: str, random: Generator) -> Iterator[Picture]:
    """Draws scikit-learn's digits of 8 x 8 pixels: 35 per class to train, 30 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for digit in range(10):
        members = random.permutation(np.flatnonzero(bunch.target == digit))
        chosen = members[:35] if split == "train" else members[-30:]
        for member in chosen:
            yield f"{digit}", Image.fromarray((bunch.images[member] * 255 / 16).astype(np.uint8))


MATERIALS = {"sky": 60, "building": 60, "road": 60, "tree": 40, "car": 30, "pavement": 15, "fence": 8}
"""Training patches by class, unbalanced on purpose."""
PATCH = 40
"""Side of a patch in pixels."""
FLATTEST = 6
"""Standard deviation of the grey levels of a patch; flatter ones, of the sky, are all alike."""


def materials(sources: Sources, split: str, random: Generator) -> Iterator[Picture]:
    """Cuts patches of CamVid of which four fifths are one class."""
    assert sources.camvid is not None
    lines = (sources.camvid / "classes.csv").read_text().splitlines()[1:]
    index_of = {name: int(index) for index, name in (line.split(",") for line in lines)}
    wanted = dict(MATERIALS) if split == "train" else dict.fromkeys(MATERIALS, 40)
    masks = [np.asarray(Image.open(path)) for path in _files(sources.camvid / "masks" / split)]
    images = [Image.open(path).convert("RGB") for path in _files(sources.camvid / "images" / split)]
    height, width = masks[0].shape
    for _ in range(200_000):
        number = int(random.integers(len(masks)))
        top, left = int(random.integers(height - PATCH)), int(random.integers(width - PATCH))
        patch = masks[number][top : top + PATCH, left : left + PATCH]
        picture = images[number].crop((left, top, left + PATCH, top + PATCH))
        if np.asarray(picture).std() < FLATTEST:
            continue
        for name, missing in wanted.items():
            share = 0.5 if name in ("fence", "pavement", "car") else 0.8
            if missing and (patch == index_of[name]).mean() >= share:
                wanted[name] -= 1
                yield name, picture
        if not any(wanted.values()):
            return


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))


LETTERS = "bdpqnuSZ25JL"
"""Pairs that are each other's mirror image or half turn, and look-alikes."""
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
)


def letters(split: str, random: Generator) -> Iterator[Picture]:
    """Draws a letter on a blotchy ground, of any colour, turned by up to 12 degrees."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    for letter in LETTERS:
        for _ in range(25):
            ground = _blotches(random)
            ink = Image.new("L", (SIDE, SIDE))
            font = ImageFont.truetype(
                folder / f"{FONTS[random.integers(len(FONTS))]}.ttf", int(random.integers(44, 76))
            )
            place = tuple(SIDE / 2 + random.uniform(-10, 10, 2))
            ImageDraw.Draw(ink).text(place, letter, fill=255, font=font, anchor="mm")
            ink = ink.rotate(random.uniform(-12, 12), Image.Resampling.BILINEAR)
            ground.paste(_contrasting(ground, random), (0, 0), ink)
            yield f"letter {letter}" if letter.islower() else letter, _noisy(ground, random)


def textures(split: str, random: Generator) -> Iterator[Picture]:
    """Draws twenty kinds of patterns: five kinds at four scales, each with its own nuisances."""
    kinds = (_stripes, _checks, _dots, _grain, _rings)
    number = 20 if split == "train" else 15
    for kind in kinds:
        for scale in (4, 7, 12, 20):
            for _ in range(number):
                pattern = kind(scale * random.uniform(0.9, 1.1), random)
                yield f"{kind.__name__[1:]} {scale:02}", _coloured(pattern, random)


def _grid(random: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the coordinates of all pixels, turned and shifted at random."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    turn = random.uniform(0, math.pi)
    u = x * math.cos(turn) + y * math.sin(turn) + random.uniform(0, SIDE)
    return u, y * math.cos(turn) - x * math.sin(turn) + random.uniform(0, SIDE)


def _stripes(period: float, random: Generator) -> NDArray[np.float64]:
    return np.sin(2 * math.pi * _grid(random)[0] / period)


def _checks(period: float, random: Generator) -> NDArray[np.float64]:
    u, v = _grid(random)
    return np.sign(np.sin(math.pi * u / period) * np.sin(math.pi * v / period))


def _dots(period: float, random: Generator) -> NDArray[np.float64]:
    u, v = _grid(random)
    return np.where(np.hypot(u % period - period / 2, v % period - period / 2) < 0.3 * period, 1.0, -1.0)


def _grain(period: float, random: Generator) -> NDArray[np.float64]:
    small = random.normal(size=(round(SIDE / period) + 1,) * 2)
    return np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _rings(period: float, random: Generator) -> NDArray[np.float64]:
    u, v = _grid(random)
    u, v = u - u.mean() + random.uniform(-30, 30), v - v.mean() + random.uniform(-30, 30)
    return np.sin(2 * math.pi * np.hypot(u, v) / period)


def _coloured(pattern: NDArray[np.float64], random: Generator) -> Image.Image:
    """Blends two colours by a pattern of -1 to 1."""
    share = np.clip((pattern[..., None] + 1) / 2, 0, 1)
    first, second = np.array(_colour(random)), np.array(_colour(random))
    picture = Image.fromarray((share * first + (1 - share) * second).astype(np.uint8))
    return _noisy(picture, random)


def _colour(random: Generator) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(*random.uniform((0, 0.3, 0.3), (1, 1, 1)))
    return round(255 * red), round(255 * green), round(255 * blue)


def _contrasting(ground: Image.Image, random: Generator) -> tuple[int, int, int]:
    """Returns a colour that is 80 grey levels or more from the ground's mean."""
    mean = np.asarray(ground.convert("L")).mean()
    while True:
        colour = _colour(random)
        if abs(np.dot(colour, (0.299, 0.587, 0.114)) - mean) >= 80:
            return colour


def _blotches(random: Generator) -> Image.Image:
    """Draws a ground of a few soft colours."""
    colours = np.array([[_colour(random) for _ in range(4)] for _ in range(4)], dtype=np.uint8)
    blotches = Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    grey = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    return Image.blend(blotches, grey, random.uniform(0.2, 0.6))


def _noisy(picture: Image.Image, random: Generator) -> Image.Image:
    """Blurs a little, and adds noise of each pixel."""
    blurred = picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 1)))
    noisy = np.asarray(blurred) + random.normal(0, random.uniform(2, 14), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


TASKS: dict[str, Callable[[Sources, str, Generator], Iterator[Picture]]] = {
    "cifar10": lambda sources, split, random: from_cifar(sources, split, random, (), 35, 30),
    "cifar-animals": lambda sources, split, random: from_cifar(
        sources, split, random, ("cat", "dog", "deer", "horse"), 25, 75
    ),
    "digits": lambda _, split, random: digits(split, random),
    "materials": materials,
    "letters": lambda _, split, random: letters(split, random),
    "textures": lambda _, split, random: textures(split, random),
}


def write_task(name: str, folder: Path, sources: Sources) -> None:
    """Writes the images of a task as PNG files."""
    for number, split in enumerate(("train", "test")):
        random = np.random.default_rng([number, *name.encode()])
        # the digits of both splits are cut from one permutation
        if name == "digits":
            random = np.random.default_rng(0)
        for image_number, (label, picture) in enumerate(TASKS[name](sources, split, random)):
            path = folder / split / label / f"{image_number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as folders of images")
    parser.add_argument("--camvid", type=Path, help="CamVid, unpacked")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    args = parser.parse_args()
    for name in args.tasks:
        write_task(name, args.folder / name, Sources(args.cifar, args.camvid))


if __name__ == "__main__":
    main()
