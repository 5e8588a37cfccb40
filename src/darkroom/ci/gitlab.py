"""Comments on a merge request by GitLab's API, version 4."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.ci.http import Api

PAGE = 100


@dataclass(frozen=True)
class GitLab:
    """A merge request."""

    api: Api
    project: str
    """Its number."""
    number: int

    @property
    def _notes(self) -> str:
        return f"/projects/{self.project}/merge_requests/{self.number}/notes"

    def comments(self) -> Iterator[tuple[int, str]]:
        page = 1
        while notes := self.api.call("GET", f"{self._notes}?sort=asc&per_page={PAGE}&page={page}"):
            yield from ((note["id"], note["body"]) for note in notes)
            page += 1

    def create(self, text: str) -> None:
        self.api.call("POST", self._notes, {"body": text})

    def update(self, number: int, text: str) -> None:
        self.api.call("PUT", f"{self._notes}/{number}", {"body": text})

    def upload(self, image: Path) -> str:
        """Upload the image to the project; GitLab shows it to those who may see the project."""
        limit = uuid.uuid4().hex
        head = (
            f'--{limit}\r\nContent-Disposition: form-data; name="file"; filename="{image.name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        )
        body = head.encode() + image.read_bytes() + f"\r\n--{limit}--\r\n".encode()
        content_type = f"multipart/form-data; boundary={limit}"
        answer = self.api.send("POST", f"/projects/{self.project}/uploads", body, content_type)
        return f"{answer['url']}"
