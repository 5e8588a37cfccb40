"""What one request, one client and all of them together may take."""

from dataclasses import dataclass

MIB = 2**20

MAX_HEADER_BYTES = 32 * 1024
"""Maximum size of a request's first line and headers together."""

MAX_FIELDS = 16
"""Maximum number of parts of a form that are not files."""

MAX_ROWS = 10_000
"""Maximum number of rows per request."""

MAX_JSON_VALUES = 500_000
"""Maximum number of values in a JSON body: parsed, small ones take up to 60 times their bytes."""

MIN_BYTES_PER_SECOND = 16 * 1024
"""A body may take one more second for as many bytes."""

KEEP_ALIVE_SECONDS = 15
"""How long a connection without a request stays open."""

COMPUTE_SECONDS = 60
"""How long a request may wait and be computed, once it has arrived."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that the command's options set."""

    max_body_bytes: int = 32 * MIB
    max_files: int = 64
    """Per request."""
    max_pixels: int = 50_000_000
    """Of an image, checked in its header."""
    max_waiting: int = 512
    """Images of all requests together that wait or are being classified."""
    max_connections: int = 1_000
    client_seconds: float = 20
    """How long a client may take for its headers, and until a body begins to count as slow."""
    stop_seconds: float = 30
    """How long requests under way may take once the server is asked to stop."""

    @property
    def max_held_bytes(self) -> int:
        """Maximum size of the bodies of all requests together."""
        return max(8 * self.max_body_bytes, 256 * MIB)
