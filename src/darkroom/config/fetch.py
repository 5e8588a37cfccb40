"""The part of ``data`` that ``fetch`` reads: which public data sets to download."""

from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.section import Mistakes, Section, StageConfig

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


class PublicSets(Section):
    """The part of ``data`` that ``fetch`` reads."""

    fetch: list[NamedSet | HuggingFaceSet] = Field(
        description="public data sets to download into data/fetched/NAME; hf--OWNER--NAME is OWNER/NAME"
        " on the Hugging Face Hub; []: none, for your own images"
    )

    def mistaken_combinations(self) -> Mistakes:
        if len(set(self.fetch)) < len(self.fetch):
            yield "data.fetch", f"{self.fetch} contains a data set twice; list each data set once"


class FetchConfig(StageConfig):
    data: PublicSets
