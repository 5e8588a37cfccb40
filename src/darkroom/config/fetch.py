"""The part of ``data`` that ``fetch`` reads: which data sets to bring."""

from collections import Counter
from typing import Annotated, Literal, get_args

from pydantic import Field

from darkroom.config.section import Mistakes, Section, StageConfig
from darkroom.own_names import FETCH_PATTERN, is_own_file, set_name

NamedSet = Literal[
    "digits",
    "breast_cancer",
    "iris",
    "wine",
    "CIFAR10",
    "CIFAR100",
    "Caltech101",
    "DTD",
    "EMNIST",
    "EuroSAT",
    "FGVCAircraft",
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "GTSRB",
    "KMNIST",
    "MNIST",
    "OxfordIIITPet",
    "QMNIST",
    "RenderedSST2",
    "STL10",
    "SVHN",
    "USPS",
]
"""Public data sets that ``fetch`` can bring: those of scikit-learn, and torchvision's by class name."""


HuggingFaceSet = Annotated[
    str,
    Field(
        pattern=r"^hf(--[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*){2,3}$",
        max_length=200,
        examples=["hf--OWNER--NAME"],
    ),
]
"""The Hub allows neither ``..`` nor ``--`` in names, so a name is never the path of a folder."""

OwnSource = Annotated[
    str,
    Field(pattern=f"^{FETCH_PATTERN}$", max_length=200, examples=["file:own/fetch/FILE.py:NAME"]),
]
"""A function of the user, whose name becomes that of a folder in data/fetched, and can be no path."""


class PublicSets(Section):
    """The part of ``data`` that ``fetch`` reads."""

    fetch: list[NamedSet | HuggingFaceSet | OwnSource] = Field(
        description="public data sets to download into data/fetched/NAME; hf--OWNER--NAME is OWNER/NAME"
        " on the Hugging Face Hub; file:own/fetch/FILE.py:NAME is a function in a Python file of yours,"
        " which writes the files; []: none, for your own images"
    )

    def mistaken_combinations(self) -> Mistakes:
        if len(set(self.fetch)) < len(self.fetch):
            yield "data.fetch", f"{self.fetch} contains a data set twice; list each data set once"
            return
        folders = Counter(set_name(item).lower() for item in (*self.fetch, *get_args(NamedSet)))
        folders.subtract(item.lower() for item in self.fetch if not is_own_file(item))
        for item in filter(is_own_file, self.fetch):
            if folders[set_name(item).lower()] > 1:
                yield (
                    "data.fetch",
                    f"{item} would be data/fetched/{set_name(item)}, which is the folder of another set;"
                    " rename the function",
                )
                return


class FetchConfig(StageConfig):
    data: PublicSets
