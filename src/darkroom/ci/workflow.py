"""Write the workflow file of a hosting, from the template beside this module."""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from darkroom.errors import UserError

PLACES = {"github": Path(".github/workflows/darkroom.yml"), "gitlab": Path(".gitlab-ci.yml")}
"""Where each hosting looks for the file."""

SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
"""What DVC's remote in S3 and a server of MLflow need."""

SETUP_CLONE = "make setup"
"""The command that makes the environment in a clone of darkroom."""

SETUP_PROJECT = "python -m venv .venv && .venv/bin/python -m pip install --quiet -r requirements.txt"
"""The same in a project made by ``darkroom init``."""

_SECRET = re.compile(r"[A-Z_][A-Z0-9_]*")


def workflow(
    hosting: str,
    secrets: Sequence[str] = SECRETS,
    gpu: bool = False,
    plots: bool = False,
    setup: str = SETUP_CLONE,
) -> str:
    """Return the text of the workflow file for ``github`` or ``gitlab``.

    Args:
        secrets: names of the secrets that steps get which use DVC's remote or MLflow.
        gpu: whether the pipeline runs on a self-hosted runner with the label ``gpu``.
        plots: whether comments show plots, which GitHub keeps in a branch. GitLab's always do.
        setup: the command that makes the environment ``.venv``.

    Raises:
        UserError: the name of a secret is not allowed.
    """
    for name in secrets:
        if not _SECRET.fullmatch(name) or name.startswith(("GITHUB_", "CI_")):
            raise UserError(
                f"--secret {name}: write the name of a variable in capitals, such as AWS_ACCESS_KEY_ID; "
                "names with GITHUB_ and CI_ belong to the hosting"
            )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template(f"{hosting}.yml.j2")
    return template.render(secrets=secrets, gpu=gpu, plots=plots, setup=setup)
