"""Comments on a pull request by GitHub's REST API.

GitHub has no API that attaches an image to a comment. Images are therefore files of a branch, if one is
named; they are named by their content, so that none is uploaded twice.
"""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.ci.http import Api, Refused
from darkroom.digests import file_sha256

PAGE = 100


@dataclass(frozen=True)
class GitHub:
    """A pull request."""

    api: Api
    repository: str
    """Owner and name."""
    number: int
    images: str = ""
    """The branch for images; empty: none."""

    @property
    def _path(self) -> str:
        return f"/repos/{self.repository}"

    def comments(self) -> Iterator[tuple[int, str]]:
        page, path = 1, f"{self._path}/issues/{self.number}/comments"
        while comments := self.api.call("GET", f"{path}?per_page={PAGE}&page={page}"):
            yield from ((comment["id"], comment["body"]) for comment in comments)
            page += 1

    def create(self, text: str) -> None:
        self.api.call("POST", f"{self._path}/issues/{self.number}/comments", {"body": text})

    def update(self, number: int, text: str) -> None:
        self.api.call("PATCH", f"{self._path}/issues/comments/{number}", {"body": text})

    def upload(self, image: Path) -> str | None:
        if not self.images:
            return None
        name = f"{file_sha256(image)[:32]}.png"
        path = f"{self._path}/contents/{name}"
        if not self._exists(f"{path}?ref={self.images}"):
            if not self._exists(f"{self._path}/git/ref/heads/{self.images}"):
                self._create_branch()
            content = base64.b64encode(image.read_bytes()).decode()
            self.api.call("PUT", path, {"message": name, "content": content, "branch": self.images})
        server = os.environ.get("GITHUB_SERVER_URL", "")
        return f"{server}/{self.repository}/blob/{self.images}/{name}?raw=true"

    def _exists(self, path: str) -> bool:
        try:
            self.api.call("GET", path)
        except Refused as error:
            if error.status == 404:
                return False
            raise
        return True

    def _create_branch(self) -> None:
        """Create the branch with a commit that has no parent: none of the project's files."""
        about = {"path": "README.md", "mode": "100644", "type": "blob"}
        content = "Plots in comments on pull requests, uploaded by `darkroom ci post`.\n"
        tree = self.api.call(
            "POST", f"{self._path}/git/trees", {"tree": [{**about, "content": content}]}
        )
        commit = {"message": "A branch for plots", "tree": tree["sha"], "parents": []}
        sha = self.api.call("POST", f"{self._path}/git/commits", commit)["sha"]
        self.api.call("POST", f"{self._path}/git/refs", {"ref": f"refs/heads/{self.images}", "sha": sha})
