"""The command ``darkroom``."""

from typing import Any

import click

from darkroom.commands.ci import ci
from darkroom.commands.compare import compare
from darkroom.commands.drift import drift
from darkroom.commands.folds import folds
from darkroom.commands.gate import gate
from darkroom.commands.init import init
from darkroom.commands.learning_curve import learning_curve
from darkroom.commands.lr import lr
from darkroom.commands.models import models
from darkroom.commands.pack import pack
from darkroom.commands.params import params
from darkroom.commands.plan import plan
from darkroom.commands.predict import predict
from darkroom.commands.promote import promote
from darkroom.commands.relabel import relabel
from darkroom.commands.seeds import seeds
from darkroom.commands.serve import serve
from darkroom.commands.sign import sign
from darkroom.commands.summary import summary
from darkroom.commands.suspects import suspects
from darkroom.commands.sweep import sweep
from darkroom.commands.sync import sync
from darkroom.commands.trace import trace
from darkroom.commands.use import use
from darkroom.commands.verify import verify
from darkroom.errors import UserError
from darkroom.system_errors import explain
from darkroom.telemetry import switch_off_telemetry
from darkroom.terminal import safe_output
from darkroom.tracking.redacted_output import redacted_output


class UserErrorsWithoutTraceback(click.Group):
    """Prints a user's mistake, or a failure of the system, as one message, and exits with status 2."""

    def main(self, *args: Any, **extra: Any) -> Any:
        switch_off_telemetry()
        with safe_output(), redacted_output(with_stdout=False):
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(error, err=True)
            ctx.exit(2)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # handled by click, which exits quietly if the reader has gone
        except Exception as error:
            reason = explain(error)
            if reason is None:  # a bug, which needs its traceback
                raise
            click.echo(f"{ctx.invoked_subcommand}: {reason}", err=True)
            ctx.exit(2)


@click.group(cls=UserErrorsWithoutTraceback, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darkroom")
def main() -> None:
    """Reproducible image classification. `dvc repro` runs the pipeline; these commands support it."""


for command in (
    init,
    plan,
    predict,
    serve,
    drift,
    pack,
    params,
    use,
    models,
    summary,
    lr,
    suspects,
    relabel,
    learning_curve,
    folds,
    seeds,
    sweep,
    sync,
    trace,
    compare,
    gate,
    ci,
    promote,
    sign,
    verify,
):
    main.add_command(command)
