"""What the server counts, in the format of Prometheus."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Monitoring:
    """The counters of one server.

    Args:
        waiting: returns the number of images that wait or are being classified.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "darkroom_requests", "Requests by status", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "darkroom_request_seconds",
            "Seconds from a request's headers to its answer",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "darkroom_batch_size", "Images per batch", buckets=_SIZES, registry=self._registry
        )
        Gauge(
            "darkroom_images_waiting",
            "Images that wait or are being classified",
            registry=self._registry,
        ).set_function(waiting)
        self._classes = Counter(
            "darkroom_predictions", "Predicted classes", ("class",), registry=self._registry
        )
        self._unfamiliar = Counter(
            "darkroom_unfamiliar", "Images unlike the training images", registry=self._registry
        )
        self._failures = Counter(
            "darkroom_failures", "Images and rows that were not classified", registry=self._registry
        )
        self._reloads = Counter(
            "darkroom_reloads", "Models that replaced another one", ("result",), registry=self._registry
        )
        self._model = Gauge(
            "darkroom_model_info",
            "The model in use",
            ("name", "version", "sha256"),
            registry=self._registry,
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, f"{status}").inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, size: int) -> None:
        """Count a batch."""
        self._batches.observe(size)

    def prediction(self, classes: Sequence[str], unfamiliar: bool) -> None:
        """Count an image or a row and its predicted classes."""
        for name in classes:
            self._classes.labels(name).inc()
        if unfamiliar:
            self._unfamiliar.inc()

    def failure(self) -> None:
        """Count an image or a row that was not classified."""
        self._failures.inc()

    def model(self, name: str, version: str, sha256: str) -> None:
        """Say which model is in use."""
        self._model.clear()
        self._model.labels(name, version, sha256).set(1)

    def reload(self, succeeded: bool) -> None:
        """Count an attempt to replace the model."""
        self._reloads.labels("loaded" if succeeded else "failed").inc()

    def text(self) -> bytes:
        """Return all counters."""
        return generate_latest(self._registry)
