"""The command ``darkroom``."""

import click

from darkroom.commands.lr import lr
from darkroom.commands.models import models
from darkroom.commands.pack import pack
from darkroom.commands.params import params
from darkroom.commands.predict import predict
from darkroom.commands.promote import promote
from darkroom.commands.summary import summary
from darkroom.commands.sync import sync
from darkroom.commands.trace import trace
from darkroom.commands.use import use
from darkroom.errors import UserError
from darkroom.tracking.secrets import redacted_output


class UserErrorsWithoutTraceback(click.Group):
    """Prints a mistake of the user's as one message and ends with status 2."""

    def invoke(self, ctx: click.Context) -> object:
        with redacted_output(with_stdout=False):
            try:
                return super().invoke(ctx)
            except UserError as error:
                click.echo(error, err=True)
                ctx.exit(2)


@click.group(cls=UserErrorsWithoutTraceback, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darkroom")
def main() -> None:
    """Reproducible image classification. `dvc repro` runs the pipeline; these help around it."""


for command in (predict, pack, params, use, models, summary, lr, sync, trace, promote):
    main.add_command(command)
