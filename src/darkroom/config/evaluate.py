"""The section ``evaluate``, and what the stage of that name reads."""

from pydantic import Field

from darkroom.config.section import Section, StageConfig


class Evaluate(Section):
    """The evaluation on the test split."""

    batch_size: int = Field(ge=1, le=65_536, description="number of images per batch")


class EvaluateConfig(StageConfig):
    num_threads: int
    evaluate: Evaluate
