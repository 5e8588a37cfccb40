"""Summaries of results for MLflow: rows of a run's description, tags, scores and facts of a model."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from darkroom.inputs import INPUT_WORDS, words_of_metrics
from darkroom.metrics.remarks import remarks_on
from darkroom.reporting.scores import calibration_scores, exported_scores
from darkroom.targets import WORDS, target_of_metrics

if TYPE_CHECKING:
    from darkroom.dataset.info import DatasetInfo
    from darkroom.models.spec import ModelSpec


NUM_WORST = 5
"""Number of classes that are named as the worst."""

NUM_NAMED = 20
"""Maximum number of classes that are named."""

DIGEST_LENGTH = 12
"""Characters of a digest that people read."""

TITLES = {
    "f1_macro": "macro F1",
    "precision_macro": "macro precision",
    "recall_macro": "macro recall",
    "iou_macro": "mean IoU",
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "hamming_loss": "Hamming loss",
}
"""The headline scores by their names in metrics.json, with their titles."""

DETAILS = ("intervals", "gate")
"""Parts of metrics.json that describe scores but are not scores."""

COMPARED = {
    "boundary": ("f1_macro", "wrong"),
    "calibration": ("nll", "brier", "ece"),
    "abstention": ("coverage", "precision"),
    "conformal": ("coverage", "mean_set_size"),
    "unfamiliar": ("share",),
}
"""The scores by which models are compared, in parts of metrics.json with settings and counts."""


def run_subject(params: Mapping[str, Any]) -> str:
    """Return what distinguishes the runs of a stage in their names: the model that is trained."""
    return f"{params.get('model.name', '')}"


def scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in metrics.json under the names that they have in MLflow.

    Scores that could not be measured are omitted. Nested names are joined by ``/``, for example
    ``test/baseline/logistic_regression/f1_macro``.
    """
    return {f"test/{name}": value for name, value in _numbers(metrics)}


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if name in DETAILS:
            continue
        if isinstance(value, Mapping):
            kept = COMPARED.get(name, value)
            yield from _numbers({key: value[key] for key in kept if key in value}, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def exported_metrics(parities: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return what parity.json says under the names that it has in MLflow.

    Args:
        parities: as in parity.json; those of earlier versions have no scores.
    """
    metrics: dict[str, float] = {}
    for file, row in parities.items():
        score = WORDS[target_of_metrics(row)].score
        names = {"parity": "max_abs_difference_below", "f1_macro": "f1_macro", score: score}
        known = {title: row[name] for title, name in names.items() if row.get(name) is not None}
        metrics |= {f"{title}/{file}": value for title, value in known.items()}
    return metrics


def kept_epoch(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model file records of the epoch whose weights it holds.

    Args:
        training: of the file's spec; older files call that epoch the best.
    """
    return training.get("kept", training["best"])


def training_tags(training: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a training's run; ``training`` as for ``kept_epoch``."""
    kept, since = kept_epoch(training), training["overfits_since_epoch"]
    return {
        "kept_epoch": f"{kept['epoch']}",
        "best_epoch": f"{training['best']['epoch']}",
        **({"kept_reason": kept["reason"]} if "reason" in kept else {}),
        "overfits_since_epoch": "never" if since is None else f"{since}",
    }


def model_params(spec: "ModelSpec") -> dict[str, str]:
    """Return the facts that distinguish models."""
    height, width = spec.input_size
    return {
        "architecture": spec.name,
        "classes": f"{len(spec.class_names)}",
        "input": f"{height} x {width} x {spec.channels}",
        "kept_epoch": f"{kept_epoch(spec.training)['epoch']}",
        "seed": f"{spec.training['seed']}",
    }


def describe_preparation(info: "DatasetInfo", counts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Describe the prepared data; ``counts`` is the content of reports/prepare/metrics.json."""
    height, width = info.input_size
    words = INPUT_WORDS[info.input]
    excluded = {name: count for name, count in counts["num_files"].items() if name != "used"}
    names = ", ".join(info.class_names[:NUM_NAMED]) + (
        ", ..." if len(info.class_names) > NUM_NAMED else ""
    )
    return {
        words.several: _enumerate(counts["num_images"]),
        f"{words.one} size": f"{height} x {width} x {info.channels}",
        "classes": f"{len(info.class_names):,}: {names}",
        "excluded files": _enumerate(excluded) or "none",
        "pairs of duplicates": _enumerate(counts["num_pairs"]) or "none",
        "digest": info.digest[:DIGEST_LENGTH],
    }


def describe_training(
    spec: "ModelSpec", info: "DatasetInfo", num_parameters: int | None = None
) -> dict[str, str]:
    """Describe a trained model from the record of its training in ``spec``."""
    size = f", {num_parameters:,} parameters" if num_parameters else ""
    kept, since = kept_epoch(spec.training), spec.training["overfits_since_epoch"]
    num_epochs = spec.training.get("num_epochs", spec.training["train.epochs"])
    return {
        "model": f"{spec.name}{size}",
        "validation macro F1": f"{kept['val_f1_macro']:.4f}",
        "validation accuracy": f"{kept['val_accuracy']:.4f}",
        "validation loss": f"{kept['val_loss']:.4f}",
        "kept epoch": f"{kept['epoch']} of {num_epochs}",
        **_choice(spec.training),
        **({} if since is None else {"overfits since epoch": f"{since}"}),
        INPUT_WORDS[info.input].several: _enumerate(
            {split: info.num_images(split) for split in ("train", "val")}
        ),
        "data": info.digest[:DIGEST_LENGTH],
    }


def _choice(training: Mapping[str, Any]) -> dict[str, str]:
    """Describe why the epoch was kept. Older files do not record that."""
    if "kept" not in training:
        return {}
    kept, best = training["kept"], training["best"]
    return {
        "best epoch": f"{best['epoch']}, with {best['val_f1_macro']:.4f} "
        f"(standard error {best['val_f1_standard_error']:.4f})",
        "kept below the best": f"{kept['below_best']:.4f}",
        "reason": kept["reason"],
        **({"remark": "; ".join(kept["remarks"])} if kept["remarks"] else {}),
    }


def describe_evaluation(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Describe a model's results on the test split; ``metrics`` as in metrics.json."""
    titles = {**TITLES, **WORDS[target_of_metrics(metrics)].scores}
    overall = {
        title: f"{metrics[name]:.4f}" for name, title in titles.items() if metrics.get(name) is not None
    }
    f1 = {row["class"]: row["f1"] for row in metrics["per_class"] if row["f1"] is not None}
    worst = [name for name in sorted(f1, key=f1.__getitem__)[:NUM_WORST] if f1[name] < 1]
    return {
        **overall,
        **_baseline_rows(metrics),
        **{
            title: f"{after:.4f} (before calibration {before:.4f})"
            for title, (before, after) in calibration_scores(metrics).items()
        },
        "lowest F1": ", ".join(f"{name} ({f1[name]:.4f})" for name in worst) or "1 in every class",
        words_of_metrics(metrics).several: f"{metrics['num_images']:,}",
        **{"remark" if n == 1 else f"remark {n}": text for n, text in enumerate(remarks_on(metrics), 1)},
    }


def _baseline_rows(metrics: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"macro F1 of {name.replace('_', ' ')}": f"{measured['f1_macro']:.4f}"
        for name, measured in metrics.get("baseline", {}).items()
        if measured["f1_macro"] is not None
    }


def describe_export(
    sizes: Mapping[str, int], parities: Mapping[str, Mapping[str, float]]
) -> dict[str, str]:
    """Describe the exported files: their sizes, scores, and how close they are to the checkpoint.

    Args:
        sizes: in bytes, by name of file.
        parities: as in parity.json; those of earlier versions have no scores.
    """
    rows = {}
    for name, size in sizes.items():
        bound = parities[name]["max_abs_difference_below"]
        words = next(words for words in WORDS.values() if words.agreement in parities[name])
        share = f"{parities[name][words.agreement]:.1%}"
        measured = exported_scores(parities[name]) if "f1_macro" in parities[name] else {}
        shown = "".join(f"{title} {score}, " for title, score in measured.items())
        rows[name] = (
            f"{size / 1e3:,.0f} kB; {shown}differs from the checkpoint by less than {bound:.0e}, "
            f"{words.agreed.format(share, 'the test images')}"
        )
    return rows


def _enumerate(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)
