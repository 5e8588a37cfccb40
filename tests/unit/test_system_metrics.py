"""The machine's load beside a run: under MLflow's names, and never in the way of the work."""

import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from darkroom.runtime import load_runtime
from darkroom.tracking import system_metrics as module
from darkroom.tracking.destinations import tracked
from darkroom.tracking.records import Metrics
from darkroom.tracking.run import Run
from darkroom.tracking.system_metrics import system_metrics


class Heard(list[Metrics]):
    def __call__(self, event: object) -> None:
        assert isinstance(event, Metrics)
        self.append(event)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.05)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.5)


def test_names_are_those_of_mlflow(heard: Heard) -> None:
    expected = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        expected |= {f"system/{name}" for name in monitor.metrics}
    with system_metrics(Run(None, heard)):
        pass
    assert set(heard[-1].values) == expected
    assert 0 < heard[-1].values["system/system_memory_usage_percentage"] < 100


def test_it_looks_again_and_again_and_once_at_the_end(heard: Heard) -> None:
    with system_metrics(Run(None, heard)):
        time.sleep(0.4)
        during = len(heard)
    assert during >= 3
    assert len(heard) == during + 1 or len(heard) == during + 2
    time.sleep(0.2)
    assert len(heard) <= during + 2  # nothing after the end
    assert not [thread for thread in threading.enumerate() if thread.name == "system-metrics"]


def test_work_is_seen(heard: Heard) -> None:
    with system_metrics(Run(None, heard)):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            sum(range(1_000))
    assert max(event.values["system/cpu_utilization_percentage"] for event in heard) > 5


def test_a_failure_is_said_once_and_harms_nothing(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: object) -> dict[str, float]:
        raise RuntimeError("no such sensor")

    monkeypatch.setattr(module._Look, "__call__", fail)
    with system_metrics(Run(None, heard)):
        time.sleep(0.3)
    assert heard == []
    assert capsys.readouterr().err == (
        "tracking: the machine's load is not logged any more: no such sensor\n"
    )


def test_a_driver_that_hangs_does_not_hold_the_stage_and_says_nothing_later(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def hang(self: object) -> dict[str, float]:
        goes_on.wait(30)
        return {"system/late": 1.0}

    monkeypatch.setattr(module._Look, "__call__", hang)
    with system_metrics(Run(None, heard)):
        time.sleep(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    goes_on.set()
    time.sleep(0.2)
    assert heard == []


def test_an_error_of_the_stage_passes_through(heard: Heard) -> None:
    with pytest.raises(KeyError), system_metrics(Run(None, heard)):
        raise KeyError("stage")


def test_it_is_logged_when_asked_for_and_else_not(
    inline_sender: None, empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_mlflow, tmp_path)
    with tracked("asked", load_runtime({"DARKROOM_SYSTEM_METRICS": "on"})) as run:
        run.resume(tmp_path / "memo")
        time.sleep(0.2)
    with tracked("silent", load_runtime()):
        pass
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = client.search_experiments(filter_string="name = 'darkroom'")
    silent, asked = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert "system/cpu_utilization_percentage" in asked.data.metrics
    assert silent.data.metrics == {}


def fake_torch(is_initialized: bool) -> SimpleNamespace:
    """Two GPUs of 80 GB, of which the second is used; without NVIDIA's management library."""

    def utilization(index: int) -> int:
        raise ModuleNotFoundError("pynvml")

    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: is_initialized,
            device_count=lambda: 2,
            memory_reserved=lambda index: (0, 20e9)[index],
            get_device_properties=lambda index: SimpleNamespace(total_memory=80e9),
            utilization=utilization,
        )
    )


def test_of_gpus_it_tells_what_the_stage_uses(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(is_initialized=True))
    with system_metrics(Run(None, heard)):
        pass
    gpus = {name: value for name, value in heard[-1].values.items() if "gpu" in name}
    assert gpus == {
        "system/gpu_1_memory_usage_megabytes": 20_000,
        "system/gpu_1_memory_usage_percentage": 25,
    }
    monkeypatch.setitem(sys.modules, "torch", fake_torch(is_initialized=False))
    with system_metrics(Run(None, heard)):
        pass
    assert not [name for name in heard[-1].values if "gpu" in name]
