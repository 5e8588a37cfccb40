"""The arithmetic of the benchmarks, and that they train as params.yaml could."""

from pathlib import Path
from typing import Any

import pytest

from darkroom.config.augment import Augment
from darkroom.config.train import Train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def import_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_options_are_whole_sections_of_params() -> None:
    from training import AUGMENT, TRAIN

    assert Train(**TRAIN).model_dump() == TRAIN
    assert Augment(**AUGMENT).model_dump() == AUGMENT


def test_decoding_is_compared_with_the_smaller_rate_and_with_what_is_shared() -> None:
    from train_loop import _loop_figures, between

    assert between([100.0, 200.0, 100.0]) == [150.0, 150.0]
    plain = _loop_figures([90.0, 99.0, 80.0], [100.0, 100.0, 100.0], None)
    assert plain["loop_over_step"] == 0.9
    assert plain["spread"] == [0.8, 0.99]
    # a step of 10 ms and 5 ms of decoding: 66.7 images/s where both need the same cores
    encoded = _loop_figures([60.0], [100.0], [200.0])
    assert encoded["loop_over_smaller"] == 0.6
    assert encoded["loop_over_shared"] == 0.9
    assert _loop_figures([60.0], [200.0], [100.0])["loop_over_smaller"] == 0.6


def test_changes_are_numbers_or_words_and_plain_steps_are_compared_where_there_are_any() -> None:
    from train_loop import _over_plain, changes

    given = ["ema_decay=0.9", "compile=default", "compile=null", "tf32=true"]
    assert changes(given[:2]) == {"ema_decay": 0.9, "compile": "default"}
    assert changes(given[2:]) == {"compile": None, "tf32": True}
    assert _over_plain([1.0], []) == {}
    assert _over_plain([90.0, 80.0, 70.0], [100.0, 100.0, 100.0]) == {"loop_over_plain_step": 0.8}


def test_the_table_has_the_newest_line_of_each_kind() -> None:
    from train_loop import table

    def line(part: str, ratio: float, **more: Any) -> dict[str, Any]:
        return {"part": part, "a_over_b": ratio, "spread": [0.1, 2.0], "cpu": "C", "cores": 2, **more}

    lines = [
        line("loop", 0.8, size="cifar", storage="encoded"),
        line("loop", 0.9, size="cifar", storage="encoded"),
        line("loop", 0.7, size="cifar", storage="encoded", gpu="G"),
        line("start", 1.2),
    ]
    assert table(lines).splitlines()[2:] == [
        "| C, 2 cores | loop, cifar, encoded: a over b | 0.9 | 0.1 to 2.0 | 0.95 |",
        "| C, 2 cores | start: a over b | 1.2 | 0.1 to 2.0 |  |",
        "| G | loop, cifar, encoded: a over b | 0.7 | 0.1 to 2.0 | 0.95 |",
    ]
