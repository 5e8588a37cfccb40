"""Clients that ask a server all the time, while its model is replaced."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from served import Answer, Served
from served_exports import NAMES, draw

from darkroom.prediction.predictor import Predictor

IMAGE = draw(0)

Expected = dict[str, list[float]]
"""The probabilities of the image by the SHA-256 of the model file."""


def expect(exported: Path, image: Path) -> Expected:
    """What `predict` says with the model that is in the folder now."""
    image.write_bytes(IMAGE)
    [found] = Predictor(exported).predict([image], len(NAMES))
    return {digest_of(exported): list(found.probabilities)}


def digest_of(exported: Path) -> str:
    return hashlib.sha256((exported / "model.onnx").read_bytes()).hexdigest()


@contextmanager
def load(served: Served) -> Iterator[list[Answer]]:
    """Two clients that ask all the time; every answer is kept."""
    answers: list[Answer] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(served.predict(IMAGE, "?top_k=99"))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        over.set()
        for client in clients:
            client.join()


def check_answers(answers: list[Answer], expected: Expected) -> None:
    """Every answer is that of the model that it names, and each model has answered."""
    assert {answer.status for answer in answers} == {200}
    for answer in answers:
        found = [one["probability"] for one in answer.prediction["top"]]
        assert found == expected[answer.json["model"]["sha256"]]
    assert {answer.json["model"]["sha256"] for answer in answers} == set(expected)
