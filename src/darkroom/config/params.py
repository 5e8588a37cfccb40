"""The whole of params.yaml, and the combinations of values in different sections that are mistakes."""

from pydantic import Field

from darkroom.config.augment import Augment
from darkroom.config.data import DataSource
from darkroom.config.evaluate import Evaluate
from darkroom.config.export import Export
from darkroom.config.fetch import PublicSets
from darkroom.config.model import Model
from darkroom.config.own import mistakes_of_own_files
from darkroom.config.prepare import Prepare
from darkroom.config.rows import mistakes_of_rows
from darkroom.config.section import Mistakes, Section, size_of
from darkroom.config.train import Train, images_differ
from darkroom.own_names import is_own_file, set_name
from darkroom.paths import FETCHED, fetched_name, mistaken_input


class Data(PublicSets, DataSource):
    """Where the images come from."""

    def mistaken_combinations(self) -> Mistakes:
        yield from PublicSets.mistaken_combinations(self)
        yield from DataSource.mistaken_combinations(self)
        if problem := mistaken_input(self.path) or self._not_fetched():
            yield "data.path", problem

    def _not_fetched(self) -> str:
        """Return what is wrong with a path that is not what ``fetch`` downloads; empty if nothing is."""
        if self.path in (f"data/{name}" for name in self.fetch if not is_own_file(name)):
            return (
                f"{self.path} is where fetch used to write; it now writes to {FETCHED}/: set"
                f" {FETCHED}/{self.path.removeprefix('data/')}, or data.fetch: [] to use the folder as"
                " your own"
            )
        sets = [set_name(item) for item in self.fetch]
        if sets and (name := fetched_name(self.path)) not in ("", *sets):
            return (
                f"{self.path} is not fetched: data.fetch lists {', '.join(sets)}, but not {name};"
                " your own images belong elsewhere, for example in data/mine"
            )
        return ""


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0, le=2**32 - 1, description="seed of all random choices")
    num_threads: int = Field(
        ge=1,
        le=256,
        description="number of CPU threads per computation; another number can change the rounding of"
        " results",
    )
    data: Data
    prepare: Prepare
    augment: Augment
    model: Model
    train: Train
    evaluate: Evaluate
    export: Export

    def mistaken_combinations(self) -> Mistakes:
        sections = (
            self.data,
            self.prepare,
            self.augment,
            self.model,
            self.train,
            self.evaluate,
            self.export,
        )
        for section in sections:
            yield from section.mistaken_combinations()
        yield from mistakes_of_rows(self)
        yield from mistakes_of_own_files(self)
        yield from self._stable_splits_of_auto_images()
        yield from self._weights_of_merged_labels()
        yield from self._mistaken_sizes()
        yield from self._useless_with_frozen_backbone()
        yield from self._mistaken_feature_views()
        yield from self._mistaken_auto_decay()

    def _stable_splits_of_auto_images(self) -> Mistakes:
        for option in ("image_size", "channels"):
            is_auto = getattr(self.prepare, option) == "auto"
            if self.prepare.split == "stable" and is_auto and self.data.table is None:
                yield (
                    f"prepare.{option}",
                    "auto can change when images are added, and would then move others to another split;"
                    " prepare.split stable needs a number",
                )

    def _weights_of_merged_labels(self) -> Mistakes:
        weights = self.train.class_weights
        for name in weights if isinstance(weights, dict) else ():
            if (target := self.data.merge_labels.get(name, name)) != name:
                yield (
                    "train.class_weights",
                    f"data.merge_labels merges {name!r} into {target!r}; set the weight of {target!r}",
                )

    def _mistaken_sizes(self) -> Mistakes:
        sizes = [size for _, size in self.train.sizes]
        if self.prepare.image_size != "auto":
            prepared = size_of(self.prepare.image_size)
            if problem := self.train.size_problem(prepared):
                yield "train.image_size", problem
            sizes = sizes or [prepared]
        if sizes and (problem := self.augment.padding_problem(min(map(min, sizes)))):
            yield "augment.crop_padding", problem
        if len(sizes) > 1 and self.model.name in ("mlp", "vit"):
            yield (
                "train.image_size",
                f"{self.model.name} has weights for one size only and cannot be trained with a schedule"
                " of sizes; set one size, or choose another model.name",
            )

    def _useless_with_frozen_backbone(self) -> Mistakes:
        if not self.train.freezes_backbone:
            return
        if self.model.weights == "random":
            yield (
                "train.freeze",
                "backbone would never be trained and keep its random weights, because model.weights is"
                " random; choose other weights, or set this to none",
            )
        if self.model.stochastic_depth > 0:
            yield (
                "model.stochastic_depth",
                f"{self.model.stochastic_depth:g} has no effect when the whole backbone is frozen; it"
                " must be 0",
            )

    @property
    def _images_differ(self) -> bool:
        """Whether a training image differs between epochs."""
        size = self.prepare.image_size
        return images_differ(self.train, self.augment, None if size == "auto" else size_of(size))

    def _mistaken_feature_views(self) -> Mistakes:
        views, augment = self.train.feature_views, self.augment
        if views is None:
            return
        if mixing := [name for name in ("mixup", "cutmix") if getattr(augment, name) is not None]:
            yield (
                "train.feature_views",
                f"augment.{mixing[0]} mixes other images in each epoch, so their features cannot be"
                " computed once; set it or this to null",
            )
        elif not self._images_differ:
            yield (
                "train.feature_views",
                f"{views} has no effect when no augmentation is set, because all views would be the"
                " same; it must be null",
            )

    def _mistaken_auto_decay(self) -> Mistakes:
        if self.train.weight_decay != "auto":
            return
        if not self.train.freezes_backbone:
            yield (
                "train.weight_decay",
                "auto trains several heads on features, so the backbone must be frozen throughout; set"
                " train.freeze to backbone and train.unfreeze to [], or this to a number",
            )
        elif self._images_differ and self.train.feature_views is None:
            crops = "" if self.augment.changes_images else ", here of random crops to train.image_size,"
            yield (
                "train.weight_decay",
                f"auto trains several heads on features, but those of augmented images{crops} are new in"
                " each epoch; set train.feature_views, or this to a number",
            )
