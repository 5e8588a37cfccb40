"""A training of a tenth of a second, for tests that kill it.

As a program, it reads jobs, one line of JSON each, and runs each in a child of its own, so that torch
is imported once. It answers with the child's process id, and then with how the child ended.
"""

import hashlib
import json
import math
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "unit"))  # for sections.py

EPOCHS = 3
NUM_STEPS = 40
NUM_VAL_BATCHES = 10

READY, STEPPING, EVALUATING, SAVING, HANGING, DONE, ASKED = range(7)
"""What a child says of itself, in memory that outlives it: five flags, the steps that it has done, and
those it had done when a signal came."""


def shared_numbers(folder: Path) -> memoryview:
    path = folder / "phases"
    if not path.exists():
        path.write_bytes(bytes(4 * 7))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("I")


# in the test


@dataclass
class Child:
    """A training under way."""

    server: "Server"
    folder: Path
    pid: int

    def phases(self) -> list[int]:
        return shared_numbers(self.folder).tolist()

    def wait_for(self, phase: int, least: int = 1) -> None:
        while self.phases()[phase] < least:
            time.sleep(0.0005)

    def end(self) -> int:
        """Waits for the end, and returns the status; minus the signal for one that was killed."""
        status = int(self.server.answer())
        self.server.tell("bury")
        return status


class Server:
    """Starts trainings; or what else ``program`` does with a job."""

    def __init__(self, program: str = __file__) -> None:
        self._process = subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout is not None
        self.answers = self._process.stdout

    def start(self, folder: Path, **job: Any) -> Child:
        folder.mkdir(exist_ok=True)
        shared_numbers(folder)[:] = memoryview(bytes(4 * 7)).cast("I")
        self.tell(json.dumps({"folder": str(folder), **job}))
        return Child(self, folder, int(self.answer()))

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def answer(self) -> bytes:
        line = self.answers.readline()
        assert line, "the server has ended"
        return line

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self.answers.close()


# in the child


def train(
    folder: Path, interval: float = 0, hang_at: int | None = None, grace: float = 600, seed: int = 0
) -> None:
    """Trains in ``folder`` from its newest state on, and writes a hash of the result there.

    Args:
        interval: seconds between two states.
        hang_at: the step of the first epoch, from 0, that takes for ever.
        grace: seconds that a step has after a signal.
    """
    import torch
    from sections import TRAIN
    from torch import Tensor, nn

    from darkroom.config.train import SettledTrain
    from darkroom.loading.batches import Batch, TrainBatch
    from darkroom.training import checkpoint, engine, interruption
    from darkroom.training.checkpoint import Checkpoints
    from darkroom.training.course import EpochResult
    from darkroom.training.engine import fit
    from darkroom.training.interruption import Interruption
    from darkroom.training.losses import make_loss
    from darkroom.training.state import TrainingState
    from darkroom.training.targets import one_class

    checkpoint.MAX_SHARE = math.inf
    interruption.GRACE_SECONDS = grace
    phases = shared_numbers(folder)
    write = checkpoint._write

    def watched_write(*values: Any) -> float:
        phases[SAVING] = 1
        try:
            return write(*values)
        finally:
            phases[SAVING] = 0

    checkpoint._write = watched_write

    changes = {"epochs": EPOCHS, "weight_decay": 0.01, "label_smoothing": 0.1, "clip_norm": 1.0}
    options = SettledTrain(**TRAIN | changes | {"ema_decay": 0.9})

    class Network(nn.Module):
        hangs = False

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.2),
                nn.Flatten(),
                nn.Linear(4 * 36, 3),
            )

        def forward(self, images: Tensor) -> Tensor:
            if self.hangs:
                phases[HANGING] = 1
                time.sleep(600)
            logits: Tensor = self.layers(images.float() / 255)
            return logits

    class NotingInterruption(Interruption):
        def _hold_back(self, signum: int, frame: Any) -> None:
            phases[ASKED] = phases[DONE]
            super()._hold_back(signum, frame)

    take_step = engine.train_step

    def counted_step(*arguments: Any) -> None:
        take_step(*arguments)
        phases[DONE] += 1

    engine.train_step = counted_step

    class State(TrainingState):
        def finish_epoch(self, result: EpochResult) -> None:
            super().finish_epoch(result)
            phases[EVALUATING] = 0

    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (NUM_STEPS * 8, 1, 8, 8), generator=generator).to(torch.uint8)
    targets = torch.randint(0, 3, (len(images),), generator=generator)
    network = Network()

    def train_batches(epoch: int, first_step: int) -> Iterator[TrainBatch]:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for step, chosen in list(enumerate(order.split(8)))[first_step:]:
            network.hangs = epoch == 0 and step == hang_at
            phases[STEPPING] = 1
            yield TrainBatch(images[chosen], targets[chosen])
            phases[STEPPING] = 0
        phases[EVALUATING] = 1

    val: list[Batch] = list(zip(images.split(32), targets.split(32), strict=True))
    assert len(val) == NUM_VAL_BATCHES
    loss = make_loss(one_class, options, ("a", "b", "c"), (1, 1, 1), 3, torch.device("cpu"))
    state = State(network, options, NUM_STEPS)
    with (
        NotingInterruption() as interrupted,
        Checkpoints(folder / "states", interval, interrupted) as checkpoints,
    ):
        checkpoints.restore(state)
        phases[DONE] = state.epoch * NUM_STEPS + state.step
        phases[READY] = 1
        for _ in fit(state, train_batches, lambda _: val, loss, options, seed, checkpoints):
            pass
    (folder / "hash").write_text(hash_of(state.to_dict()))


def hash_of(value: Any) -> str:
    """Hashes all numbers and tensors in a nested value, to the bit."""
    total = hashlib.sha256()

    def add(part: Any) -> None:
        if hasattr(part, "numpy"):
            total.update(part.detach().contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            for key in part:
                total.update(str(key).encode())
                add(part[key])
        elif isinstance(part, list | tuple):
            for item in part:
                add(item)
        else:
            total.update(repr(part).encode())

    add(value)
    return total.hexdigest()


def serve(do: Callable[..., None]) -> None:
    """Reads jobs, and has a child of its own do each; the child's output goes to ``log``."""
    for line in sys.stdin:
        if line == "bury\n":
            os.wait()
            continue
        job = json.loads(line)
        folder = Path(job.pop("folder"))
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if (pid := os.fork()) == 0:
            signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
            # what runs in the background of a script was told to ignore it
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                do(folder, **job)
            except KeyboardInterrupt:
                sys.exit(128 + signal.SIGINT)  # as a stage does
            os._exit(0)  # taking the interpreter down takes longer than the training
        os.close(log)
        print(pid, flush=True)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its id is not given away yet
        assert ended is not None
        print(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, flush=True)


if __name__ == "__main__":
    import torch

    import darkroom.training.engine  # noqa: F401

    # the first optimizer imports torch's compiler, which takes longer than a training
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])

    serve(train)
