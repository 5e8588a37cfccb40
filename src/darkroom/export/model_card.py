"""Write the model card: intended use, scores, data, parameters and environment on one page.

After Mitchell et al., "Model Cards for Model Reporting" (2019).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.dataset.info import DatasetInfo
from darkroom.inputs import INPUT_WORDS
from darkroom.metrics.remarks import remarks_on
from darkroom.models.spec import ModelSpec
from darkroom.reporting.scores import (
    answer_sentences,
    baseline_scores,
    calibration_scores,
    definition,
    exported_scores,
    intervals,
    macro_scores,
    overall_scores,
    unfamiliar_sentence,
)
from darkroom.reporting.templates import load_template
from darkroom.targets import WORDS

COURSE = ("kept", "best", "num_epochs", "history")
"""Entries of the training in a model file that the card does not list as parameters."""


def trained_params(spec: ModelSpec) -> dict[str, Any]:
    """Return every parameter of the training by its full name, and digests of its data and weights."""
    return {name: value for name, value in spec.training.items() if name not in COURSE}


def write_model_card(
    spec: ModelSpec,
    info: DatasetInfo,
    metrics: Mapping[str, Any],
    files: Sequence[tuple[str, str]],
    checked: Mapping[str, Mapping[str, Any]],
    path: Path,
) -> None:
    """Write the model card as Markdown.

    Args:
        metrics: the scores on the test split, as in metrics.json.
        files: (name, description) of the exported formats.
        checked: the scores of each exported file, and its difference to the checkpoint, as in
            parity.json.
    """
    text = load_template(Path(__file__).with_name("model_card.md.j2"), autoescape=False).render(
        spec=spec,
        words=WORDS[spec.target],
        inputs=INPUT_WORDS[spec.input],
        info=info,
        metrics=metrics,
        scores={**macro_scores(metrics), **overall_scores(metrics)},
        intervals=intervals(metrics),
        baselines=baseline_scores(metrics),
        calibration=calibration_scores(metrics),
        answers=list(answer_sentences(metrics)),
        unfamiliar=unfamiliar_sentence(metrics),
        definition=definition(metrics),
        remarks=remarks_on(metrics),
        f1_of={row["class"]: row["f1"] for row in metrics["per_class"]},
        files=files,
        checked=[
            {
                "file": name,
                "kilobytes": row["bytes"] / 1e3,
                "scores": exported_scores(row),
                "agreement": row[WORDS[spec.target].agreement],
                "below": row["max_abs_difference_below"],
            }
            for name, row in checked.items()
        ],
        splits=[split for split in ("train", "val", "test") if split in info.counts],
        folder=f"{path.parent.name}/",
        params=trained_params(spec),
        kept=spec.training.get("kept"),
        environment=spec.environment,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
