"""The part of ``data`` that ``fetch`` reads: which public sets to bring."""

from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.section import Section, StageConfig

NamedSet = Literal[
    "digits",
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
"""Public sets that ``fetch`` can bring: scikit-learn's digits, and torchvision's by class name."""


HuggingFaceSet = Annotated[
    str,
    Field(
        pattern=r"^hf(--[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*){2,3}$",
        max_length=200,
        examples=["hf--OWNER--NAME"],
    ),
]
"""The hub's own rules for names: no ``..`` and no ``--``, so these are never the path of a folder."""


class PublicSets(Section):
    """The part of ``data`` that ``fetch`` reads."""

    fetch: list[NamedSet | HuggingFaceSet] = Field(
        description="public sets to fetch into data/fetched/NAME; hf--OWNER--NAME is OWNER/NAME on the"
        " Hugging Face hub; [] for images of your own"
    )


class FetchConfig(StageConfig):
    data: PublicSets
