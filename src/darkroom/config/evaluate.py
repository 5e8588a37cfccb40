"""The section ``evaluate``, and what the stage of that name reads."""

from typing import Literal

from pydantic import Field

from darkroom.config.section import Fraction, Section, StageConfig


class Evaluate(Section):
    """The evaluation on the test split."""

    batch_size: int = Field(ge=1, le=65_536, description="number of images per batch")
    tta: Literal["flip"] | None = Field(
        description="test-time augmentation: flip: average the probabilities of each image and its"
        " mirror image, which takes twice as long; exported models do not do this; null: none"
    )
    target_precision: Fraction | None = Field(
        description="share of correct answers that `darkroom predict --abstain` should reach: evaluate"
        " chooses the lowest confidence for which validation images show it; null: never abstain"
    )
    coverage: Fraction | None = Field(
        description="share of the images whose true class should be in the set of possible classes that"
        " `darkroom predict --abstain` prints; null: no sets"
    )


class EvaluateConfig(StageConfig):
    num_threads: int
    evaluate: Evaluate
