"""What posting a comment needs of a hosting, and the one whose CI runs this process."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from darkroom.ci.github import GitHub
from darkroom.ci.gitlab import GitLab
from darkroom.ci.http import Api
from darkroom.errors import UserError

MARK = "<!-- darkroom report -->"
"""The first line of our comment, by which it is found again; readers do not see it."""

MOST_CHARACTERS = 60_000
"""GitHub refuses comments of more than 65,536 characters."""

_IMAGE = re.compile(r"!\[([^\]\n]*)\]\(([^)\s]+)\)")


class Hosting(Protocol):
    """A pull request at a hosting."""

    def comments(self) -> Iterator[tuple[int, str]]:
        """Yield number and text of each comment."""

    def create(self, text: str) -> None:
        """Add a comment."""

    def update(self, number: int, text: str) -> None:
        """Replace the text of a comment."""

    def upload(self, image: Path) -> str | None:
        """Return the address of an uploaded image; None if the hosting has no place for it."""


def hosting_of(environ: Mapping[str, str] = os.environ, images: str = "") -> Hosting | None:
    """Return the pull request that this CI job runs for; None if it runs for none.

    Args:
        images: the branch for images, on GitHub.

    Raises:
        UserError: this is no CI job, or it has no token.
    """
    if environ.get("GITHUB_ACTIONS") == "true":
        pull = re.fullmatch(r"refs/pull/(\d+)/(?:merge|head)", environ.get("GITHUB_REF", ""))
        if pull is None:
            return None
        headers = {
            "Authorization": f"Bearer {_variable(environ, 'GITHUB_TOKEN')}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        api = Api(_variable(environ, "GITHUB_API_URL").rstrip("/"), headers)
        return GitHub(api, _variable(environ, "GITHUB_REPOSITORY"), int(pull[1]), images)
    if environ.get("GITLAB_CI") == "true":
        number = environ.get("CI_MERGE_REQUEST_IID", "")
        if not number:
            return None
        headers = {"PRIVATE-TOKEN": _variable(environ, "GITLAB_TOKEN")}
        api = Api(_variable(environ, "CI_API_V4_URL").rstrip("/"), headers)
        return GitLab(api, _variable(environ, "CI_MERGE_REQUEST_PROJECT_ID"), int(number))
    raise UserError(
        "neither GITHUB_ACTIONS nor GITLAB_CI is set: comments are posted by jobs of GitHub and GitLab"
    )


def _variable(environ: Mapping[str, str], name: str) -> str:
    if not (value := environ.get(name, "")):
        raise UserError(f"environment: {name} is not set; docs/ci.md says where it comes from")
    return value


def publish(text: str, hosting: Hosting) -> str:
    """Create our comment, or replace it if there is one; return ``created`` or ``updated``.

    Raises:
        UserError: the hosting refuses.
    """
    text = f"{MARK}\n{_IMAGE.sub(lambda image: _uploaded(image, hosting), text)}"
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS] + "\n\n</details>\n\nThe rest is in the summary of the job."
    number = next((number for number, old in hosting.comments() if old.startswith(MARK)), None)
    if number is None:
        hosting.create(text)
        return "created"
    hosting.update(number, text)
    return "updated"


def _uploaded(image: re.Match[str], hosting: Hosting) -> str:
    path = Path(image[2])
    if path.suffix != ".png" or path.is_absolute() or not path.is_file():
        return image[0]
    address = hosting.upload(path)
    return f"![{image[1]}]({address})" if address else f"{image[1]}: `{path}` in the job's artifacts"
