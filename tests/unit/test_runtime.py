"""The DARKROOM_* settings of the environment, good and bad."""

import os

import pydantic
import pytest

from darkroom.errors import UserError
from darkroom.runtime import Runtime, load_runtime

SETTINGS = (
    "the settings are DARKROOM_DEVICE, DARKROOM_WORKERS, DARKROOM_CHECKPOINT_SECONDS, "
    "DARKROOM_FEATURES_GIB, DARKROOM_TRACKING, DARKROOM_MLFLOW_SECONDS, DARKROOM_TENSORBOARD, "
    "DARKROOM_SYSTEM_METRICS"
)
DEVICES = "auto or cpu or cuda or mps"
WORKERS = "an integer from 1 to 1024"


def test_an_empty_environment_means_all_cores_any_device_and_tracking() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert load_runtime({}).model_dump() == {
        "device": "auto",
        "workers": cores,
        "checkpoint_seconds": 60,
        "features_gib": 10,
        "tracking": "on",
        "mlflow_seconds": 60,
        "tensorboard": None,
        "system_metrics": "off",
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(("device", device, device) for device in ("auto", "cpu", "cuda", "mps")),
        ("workers", "1", 1),
        ("workers", "1024", 1024),
        ("features_gib", "1", 1),
        ("tracking", "on", "on"),
        ("tracking", "off", "off"),
        ("mlflow_seconds", "0", 0),
        ("tensorboard", "a/b", "a/b"),
        ("system_metrics", "on", "on"),
    ],
)
def test_a_variable_sets_its_setting_and_no_other(name: str, value: str, expected: object) -> None:
    runtime = load_runtime({f"DARKROOM_{name.upper()}": value})
    assert runtime.model_dump() == {**load_runtime({}).model_dump(), name: expected}


def test_other_variables_are_none_of_its_business() -> None:
    others = {"PATH": "/bin", "MLFLOW_TRACKING_URI": "x", "WORKERS": "0", "MY_DARKROOM_DEVICE": "tpu"}
    assert load_runtime(others) == load_runtime({})


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DARKROOM_WORKERS", "3")
    assert load_runtime().workers == 3
    monkeypatch.delenv("DARKROOM_WORKERS")
    assert load_runtime() == load_runtime({})


def test_the_number_of_workers_follows_what_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 7}, raising=False)
    assert load_runtime({}).workers == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert load_runtime({}).workers == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert load_runtime({}).workers == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DEVICE", "gpu", f"DARKROOM_DEVICE=gpu is not allowed; it must be {DEVICES}"),
        ("DEVICE", "CPU", f"DARKROOM_DEVICE=CPU is not allowed; it must be {DEVICES}"),
        ("DEVICE", "", f"DARKROOM_DEVICE= is not allowed; it must be {DEVICES}"),
        ("WORKERS", "0", f"DARKROOM_WORKERS=0 is not allowed; it must be {WORKERS}"),
        ("WORKERS", "1025", f"DARKROOM_WORKERS=1025 is not allowed; it must be {WORKERS}"),
        ("WORKERS", "-1", f"DARKROOM_WORKERS=-1 is not allowed; it must be {WORKERS}"),
        ("WORKERS", "two", f"DARKROOM_WORKERS=two is not allowed; it must be {WORKERS}"),
        ("WORKERS", "1.5", f"DARKROOM_WORKERS=1.5 is not allowed; it must be {WORKERS}"),
        ("TRACKING", "no", "DARKROOM_TRACKING=no is not allowed; it must be on or off"),
        (
            "MLFLOW_SECONDS",
            "-1",
            "DARKROOM_MLFLOW_SECONDS=-1 is not allowed; it must be an integer from 0 to 86400",
        ),
        ("TENSORBOARD", "", "DARKROOM_TENSORBOARD= is not allowed; it must be a folder, or not set"),
        (
            "WORKER",
            "2",
            f"DARKROOM_WORKER is not a setting of darkroom ({SETTINGS}); did you mean DARKROOM_WORKERS?",
        ),
        (
            "Devise",
            "cpu",
            f"DARKROOM_DEVISE is not a setting of darkroom ({SETTINGS}); did you mean DARKROOM_DEVICE?",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(name: str, value: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        load_runtime({f"DARKROOM_{name}": value})
    assert str(refused.value) == f"environment: {message}"


def test_all_wrong_settings_are_said_at_once() -> None:
    wrong = {"DARKROOM_DEVICE": "tpu", "DARKROOM_WORKERS": "0", "DARKROOM_SPEED": "high"}
    with pytest.raises(UserError) as refused:
        load_runtime({**wrong, "DARKROOM_TRACKING": "off"})
    lines = str(refused.value).splitlines()
    assert len(lines) == len(wrong)
    assert all(name in line for name, line in zip(wrong, lines, strict=True))


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(pydantic.ValidationError):
        Runtime().device = "cpu"
