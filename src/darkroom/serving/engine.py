"""What all models of a server share: threads, limits and counters."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from darkroom.parallel import available_cores
from darkroom.prediction.hourly import HourlyLog
from darkroom.serving.admission import Admission
from darkroom.serving.limits import Limits
from darkroom.serving.monitoring import Monitoring


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How images are put into batches."""

    max_batch: int = 64
    max_wait_seconds: float = 0.002


@dataclass
class Engine:
    """Threads, limits and counters; created before the event loop."""

    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)
    workers: int = field(default_factory=available_cores)
    """Number of threads that decode images."""
    log: HourlyLog | None = None
    """Counts predictions by hour, if wanted."""

    def __post_init__(self) -> None:
        self.images = Admission(self.limits.max_waiting, "images")
        self.bytes = Admission(self.limits.max_held_bytes, "bytes of files")
        self.monitoring = Monitoring(lambda: self.images.taken)
        self.decoding = ThreadPoolExecutor(self.workers, "decode")
        self.inference = ThreadPoolExecutor(1, "infer")
        self.loading = ThreadPoolExecutor(1, "load")

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for pool in (self.decoding, self.inference, self.loading):
            pool.shutdown(wait=False, cancel_futures=True)
