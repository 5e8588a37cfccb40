"""A sweep from its definition to its files: trials, runs in MLflow, the best model and the summary."""

import json
from pathlib import Path
from typing import Any

from darkroom.bounded_json import load_json
from darkroom.compute.device import select_device
from darkroom.compute.environment import describe_environment, fingerprint
from darkroom.config.train import TrainConfig
from darkroom.dataset.prepared import PreparedData
from darkroom.digests import code_digest, file_sha256, folder_digest
from darkroom.features.extractor import ROOMS
from darkroom.parallel import OrderedMap, ordered_map
from darkroom.params import flatten
from darkroom.paths import CACHE, OWN_TRAIN, REPORT_TRAIN, WEIGHTS
from darkroom.progress import progress_bar
from darkroom.runtime import Runtime
from darkroom.sweep.definition import Sweep
from darkroom.sweep.page import write_report
from darkroom.sweep.runs import open_runs
from darkroom.sweep.search import Search, config_of, configs_of, num_epochs
from darkroom.sweep.storage import check_optuna
from darkroom.sweep.study import Trial, open_study
from darkroom.sweep.summary import Summary, summarise, write_best
from darkroom.sweep.training import Unit, forget, known_outcome, write_model
from darkroom.sweep.winner import SWEEPS
from darkroom.training.checkpoint import scratch_folder

MODEL = "model.safetensors"


def origin_of(sweep: Sweep, runtime: Runtime) -> dict[str, Any]:
    """Return what all scores of a sweep depend on, by name.

    Raises:
        UserError: there are no prepared images.
    """
    config = TrainConfig.of(sweep.space.base)
    origin: dict[str, Any] = {
        **flatten(config),
        "data.digest": PreparedData().info.digest,
        f"{WEIGHTS}": folder_digest(WEIGHTS),
        f"{OWN_TRAIN}": folder_digest(OWN_TRAIN),
        "code": code_digest((*ROOMS, "training", "metrics")),
        "space": sweep.description,
        "sampler": sweep.sampler,
        "sampler.seed": sweep.seed,
        "seeds": sweep.num_seeds,
        "rungs": sweep.rungs,
    }
    if sweep.pruning is not None:
        origin["trials"] = sweep.num_trials  # which decides how many are promoted
    if sweep.storage is None:  # the machines of a team may differ
        origin["environment"] = fingerprint(describe_environment(select_device(runtime.device)))
    return json.loads(json.dumps(origin))


def run_sweep(sweep: Sweep, runtime: Runtime, apply: OrderedMap = ordered_map) -> tuple[Summary, Path]:
    """Train all trials that were not trained yet; return the summary and the folder of the sweep.

    Args:
        apply: applies a function to trainings.

    Raises:
        UserError: see ``open_study``, ``origin_of`` and ``summarise``.
    """
    check_optuna()
    folder = SWEEPS / sweep.name
    origin = origin_of(sweep, runtime)
    parts = [f"{name} {value}" for name, value in origin.items() if name not in _OF_THE_SEARCH]
    root = scratch_folder(CACHE / "sweep", *parts)
    root.mkdir(parents=True, exist_ok=True)
    log = folder / "trainings.log"
    with (
        open_study(sweep, folder, origin) as study,
        open_runs(sweep, folder, origin, runtime) as runs,
    ):
        with progress_bar(f"sweep {sweep.name}", num_epochs(sweep), "epochs") as bar:
            best: Trial | None = None
            for trial in Search(sweep, study, runtime, root, log, bar, apply).run():
                config = config_of(sweep, trial)
                if isinstance(config, str):
                    runs.log(trial, None, [])
                    continue
                configs = configs_of(sweep, config)
                epochs = max(trial.scores, default=0)
                known = [known_outcome(Unit(one, epochs), root) for one in configs] if epochs else []
                runs.log(trial, configs[0], [one for one in known if one is not None])
                is_best = trial.state == "complete" and (best is None or _rank(trial) > _rank(best))
                for one in configs[1 if is_best else 0 :]:
                    forget(one, root)
                if is_best:
                    if best is not None:
                        forget(_config(sweep, best), root)
                    best = trial
        summary = summarise(sweep, study.trials(), origin, PreparedData().info.num_images("val"))
        _write_model(summary, runtime, root, log, folder)
        write_best(summary, folder)
        write_report(summary, folder)
        runs.finish(summary)
    return summary, folder


_OF_THE_SEARCH = ("space", "sampler", "sampler.seed", "seeds", "rungs", "trials")
"""What decides which trainings there are, but not what they result in."""


def _rank(trial: Trial) -> tuple[float, int]:
    return trial.score(), -trial.index


def _config(sweep: Sweep, trial: Trial) -> TrainConfig:
    config = config_of(sweep, trial)
    assert isinstance(config, TrainConfig)  # it was trained
    return config


def _write_model(summary: Summary, runtime: Runtime, root: Path, log: Path, folder: Path) -> None:
    """Write the model of the best trial, unless it is there."""
    memo = folder / "model.json"
    wanted = {"trial": summary.best.index, "origin": dict(summary.origin)}
    model = folder / MODEL
    try:
        known = load_json(memo)
        if known == {**wanted, "sha256": file_sha256(model)}:
            return
    except (OSError, ValueError):
        pass
    config = _config(summary.sweep, summary.best)
    write_model(config, runtime, root, log, model, folder / REPORT_TRAIN.name)
    memo.write_text(json.dumps({**wanted, "sha256": file_sha256(model)}), encoding="utf-8")
