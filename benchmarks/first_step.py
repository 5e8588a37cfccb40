"""Runs ``stages/train.py`` of the current folder up to its first step, says so, and ends.

    python first_step.py [STOP_AT]

With STOP_AT it trains on to that step of the epoch, and has itself stopped there as a user would: the
state is saved, and the next start resumes from it.
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

import darkroom.pipeline.stage

run_stage = darkroom.pipeline.stage.run_stage
stop_at = int(sys.argv[1]) if len(sys.argv) > 1 else None


def instrumented(name: str, config_type: Any, main: Callable[..., None]) -> None:
    def instrumented_main(*arguments: Any) -> None:
        from darkroom.training import engine

        train_step = engine.train_step

        def step(state: Any, *arguments: Any) -> None:
            if stop_at is None:
                print(f"first step: {state.step}", flush=True)
                os._exit(0)
            train_step(state, *arguments)
            if state.step + 1 == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        engine.train_step = step  # type: ignore[assignment]
        main(*arguments)

    run_stage(name, config_type, instrumented_main)


darkroom.pipeline.stage.run_stage = instrumented
runpy.run_path("stages/train.py", run_name="__main__")
