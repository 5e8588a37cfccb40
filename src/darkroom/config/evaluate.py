"""The section ``evaluate``, and what the stage of that name reads."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from darkroom.config.section import Fraction, Mistakes, Section, StageConfig

Score = Annotated[float, Field(ge=0, le=1)]


@with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Gate(TypedDict, total=False):
    """What a model must reach; what is absent is not required."""

    min_f1_macro: Score
    min_recall: Score | dict[str, Score]
    """Minimum recall of every class, or of each class that is named."""
    max_drop: Score
    """How far macro F1 may be below that of ``against``."""
    against: Annotated[str, Field(min_length=1)]
    """A model as `darkroom compare` names it: champion, or a git revision."""


class Evaluate(Section):
    """The evaluation on the test split."""

    batch_size: int = Field(ge=1, le=65_536, description="number of images or rows per batch")
    tta: Literal["flip"] | None = Field(
        description="test-time augmentation: flip: average the probabilities of each image and its"
        " mirror image, which takes twice as long; exported models do not do this; null: none"
    )
    target_precision: Fraction | None = Field(
        description="share of correct answers that `darkroom predict --abstain` should reach: evaluate"
        " chooses the lowest confidence for which the validation data show it (of several labels, for"
        " each label); null: never abstain"
    )
    coverage: Fraction | None = Field(
        description="share of the images or rows whose true class should be in the set of possible"
        " classes that `darkroom predict --abstain` prints; null: no sets"
    )
    gate: Gate | None = Field(
        examples=["{min_f1_macro: 0.95, min_recall: 0.9, max_drop: 0.01, against: champion} or null"],
        description="what the test scores must reach, by the lower bounds of their 95 % intervals, for"
        " `darkroom gate` to pass: macro F1; the recall of every class, or {class: recall}; the largest"
        " drop of macro F1 against the champion or a git revision; any of them; null: no gate",
    )

    def mistaken_combinations(self) -> Mistakes:
        if self.gate is None:
            return
        if not self.gate:
            yield "evaluate.gate", "{} requires nothing; it must be null"
        if ("max_drop" in self.gate) != ("against" in self.gate):
            yield (
                "evaluate.gate",
                "max_drop and against belong together: the drop is measured against that model",
            )


class EvaluateConfig(StageConfig):
    num_threads: int
    evaluate: Evaluate
