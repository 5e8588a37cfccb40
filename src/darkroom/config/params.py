"""The whole of params.yaml: all sections, and the combinations of their values that are mistakes."""

from collections.abc import Iterator

from pydantic import Field

from darkroom.config.augment import Augment
from darkroom.config.data import DataSource
from darkroom.config.evaluate import Evaluate
from darkroom.config.export import Export
from darkroom.config.fetch import PublicSets
from darkroom.config.model import Model
from darkroom.config.prepare import Prepare
from darkroom.config.section import Section
from darkroom.config.train import Train
from darkroom.paths import FETCHED, fetched_name, mistaken_input


class Data(PublicSets, DataSource):
    """Where the images come from."""


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0, le=2**32 - 1, description="every random choice follows from it")
    num_threads: int = Field(
        ge=1, le=256, description="CPU threads of a computation; another number rounds differently"
    )
    data: Data
    prepare: Prepare
    augment: Augment
    model: Model
    train: Train
    evaluate: Evaluate
    export: Export

    def mistaken_combinations(self) -> Iterator[tuple[str, str]]:
        """Yields ``(full name, what is wrong)`` for values that do not go together."""
        prepare, augment, model, train = self.prepare, self.augment, self.model, self.train
        if prepare.fold is not None:
            fold, num_folds = (int(part) for part in prepare.fold.split("/"))
            if num_folds < 2:
                yield "prepare.fold", f"{prepare.fold} is no fold; a fold is one of at least two"
            elif fold > num_folds:
                there_are = f"1/{num_folds} to {num_folds}/{num_folds}"
                yield (
                    "prepare.fold",
                    f"{prepare.fold} is no fold; of {num_folds} folds there are {there_are}",
                )
            elif prepare.val_fraction + 1 / num_folds >= 1:
                yield (
                    "prepare.val_fraction",
                    f"{prepare.val_fraction:g} and the fold of 1/{num_folds} leave nothing to train on; "
                    "their sum must be below 1",
                )
            if prepare.split == "given":
                yield (
                    "prepare.fold",
                    f"{prepare.fold} cuts a test split, but prepare.split is given, which cuts nothing",
                )
        elif prepare.val_fraction + prepare.test_fraction >= 1:
            yield (
                "prepare.test_fraction",
                f"{prepare.test_fraction:g} and prepare.val_fraction {prepare.val_fraction:g} leave "
                "nothing to train on; their sum must be below 1",
            )
        for option in ("image_size", "channels"):
            if prepare.split == "stable" and getattr(prepare, option) == "auto":
                yield (
                    f"prepare.{option}",
                    "auto may change with a new image, and move others, where prepare.split is stable; "
                    "set a number",
                )
        if problem := mistaken_input(self.data.path):
            yield "data.path", problem
        elif self.data.path in (f"data/{name}" for name in self.data.fetch):
            yield (
                "data.path",
                f"{self.data.path} is where fetch wrote before; it writes to {FETCHED}/ now: set"
                f" {FETCHED}/{self.data.path.removeprefix('data/')}, or data.fetch: [] to use the"
                " folder as your own",
            )
        elif self.data.fetch and (name := fetched_name(self.data.path)) not in ("", *self.data.fetch):
            yield (
                "data.path",
                f"{self.data.path} is not fetched: data.fetch names {', '.join(self.data.fetch)} and not"
                f" {name}; images of your own belong elsewhere, such as in data/mine",
            )
        yield from self.data.mistaken_combinations()
        if isinstance(train.class_weights, dict):
            for name in train.class_weights:
                if (target := self.data.merge_labels.get(name, name)) != name:
                    yield (
                        "train.class_weights",
                        f"data.merge_labels merges {name!r} into {target!r}; weight {target!r} instead",
                    )
        if len(set(self.data.fetch)) < len(self.data.fetch):
            yield "data.fetch", f"{self.data.fetch} names a set twice; name each once"
        if augment.crop_padding > 0 and augment.resized_crop is not None:
            yield (
                "augment.resized_crop",
                f"{augment.resized_crop:g} crops, and so does augment.crop_padding"
                f" {augment.crop_padding}; set this to null or that to 0",
            )
        side = prepare.image_size
        if isinstance(side, int) and (out_of_sight := augment.padding_problem(side)):
            yield "augment.crop_padding", out_of_sight
        if augment.translate == 1:
            yield "augment.translate", "1 moves images out of sight altogether; it must be below 1"
        yield from model.mistaken_combinations()
        yield from train.mistaken_combinations()
        if train.freezes_backbone and model.weights == "random":
            yield (
                "train.freeze",
                "backbone would keep its random weights, since model.weights is random, and never learn;"
                " take other weights, or none here",
            )
        if train.freezes_backbone and model.stochastic_depth > 0:
            yield (
                "model.stochastic_depth",
                f"{model.stochastic_depth:g} has no effect where the whole backbone is frozen; "
                "it must be 0 there",
            )
        if len(set(self.export.formats)) < len(self.export.formats):
            yield "export.formats", f"{self.export.formats} names a format twice; name each once"
