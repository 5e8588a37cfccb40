"""The code around every stage: what happens before and after its own work."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from darkroom.compute.determinism import configure_libraries
from darkroom.config.section import StageConfig
from darkroom.errors import UserError
from darkroom.installed import check_code
from darkroom.params import flatten, load_params
from darkroom.paths import CACHE, ENVIRONMENT, PARAMS
from darkroom.pipeline.locks import only_one
from darkroom.pipeline.orphan import end_with_dvc
from darkroom.pipeline.snapshot import EditedMeanwhile, Snapshot
from darkroom.runtime import Runtime, load_runtime
from darkroom.system_errors import explain
from darkroom.telemetry import switch_off_telemetry
from darkroom.terminal import safe_output
from darkroom.tracking.descriptions import run_subject
from darkroom.tracking.destinations import tracked
from darkroom.tracking.ledger.key_output import output_tags
from darkroom.tracking.redacted_output import redacted_output
from darkroom.tracking.reports import ProjectFiles, report_inputs, report_outcome
from darkroom.tracking.run import Run, warn

Config = TypeVar("Config", bound=StageConfig)


@redacted_output()
def run_stage(
    name: str,
    config_type: type[Config],
    main: Callable[[Config, Runtime, Run], None],
) -> None:
    """Run ``main`` as the stage ``name`` of dvc.yaml.

    Mistakes in params.yaml and in the environment are reported before heavy imports, which is why
    stages import inside ``main``; the CPU's instruction set is pinned before torch is loaded. The exit
    status is 2, with one message, after a user's mistake, and 1 if params or code were edited during
    the run.

    Args:
        config_type: the stage's part of params.yaml.
    """
    switch_off_telemetry()
    with safe_output(is_patient=True):
        _run_stage(name, config_type, main)


def _run_stage(
    name: str,
    config_type: type[Config],
    main: Callable[[Config, Runtime, Run], None],
) -> None:
    signal.signal(signal.SIGTERM, _exit_on_term)
    end_with_dvc()
    try:
        check_code(name)
        config = config_type.of(load_params(PARAMS))
        runtime = load_runtime()
        configure_libraries(config.is_deterministic)
        snapshot = Snapshot.take(name, config)
        params = flatten(config)
        with only_one(name, CACHE / "locks"), tracked(name, runtime, run_subject(params)) as run:
            files = ProjectFiles()
            # main reports what is wrong with an input
            with suppress(OSError, UserError, ValueError, KeyError):
                report_inputs(name, params, run, files)
            main(config, runtime, run)
            try:
                report_outcome(name, params, run, files)
            except Exception as error:  # of any kind: an observer must not stop the work
                warn("not everything of this run is logged", error)
            run.log_tags(output_tags(name))
            _record_environment(runtime, run)
            snapshot.check(name)
    except UserError as error:
        sys.exit(_say(f"{error}", 2))
    except EditedMeanwhile as error:
        sys.exit(_say(f"{name}: {error}", 1))
    except KeyboardInterrupt:
        sys.exit(_say(f"{name}: interrupted", 128 + signal.SIGINT))
    except Exception as error:
        reason = explain(error)
        if reason is None:  # a bug, which needs its traceback
            raise
        sys.exit(_say(f"{name}: {reason}", 2))


def _record_environment(runtime: Runtime, run: Run) -> None:
    """Record the environment, on which the bytes of torch's results depend, in a file and in the run."""
    if "torch" not in sys.modules:
        return
    from darkroom.compute.device import select_device
    from darkroom.compute.environment import (
        describe_environment,
        fingerprint,
        write_environment,
    )

    environment = describe_environment(select_device(runtime.device))
    write_environment(environment, ENVIRONMENT)
    run.log_tags({"environment": fingerprint(environment), "device": environment["device"]})
    run.log_artifacts(ENVIRONMENT)


def _say(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status


def _exit_on_term(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)  # as an exception, so that the run is closed as KILLED
