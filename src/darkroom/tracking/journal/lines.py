"""Lines of a journal: a CRC-32 in hexadecimal, a space, and JSON."""

import zlib

from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.tracking.records import Record


class Line(BaseModel):
    """A line of a journal."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    number: int
    """Counts from 0, so that a missing line is noticed."""
    producer: str | None = None
    """If set, the record is for the run that produced this artifact (see ``Input``)."""
    record: Record


def seal(content: bytes) -> bytes:
    """Return ``content``, which has no line break, as a line with its checksum."""
    return b"%08x %s\n" % (zlib.crc32(content), content)


def unseal(raw: bytes) -> bytes:
    """Return the content of a line, which is given without its line break.

    Raises:
        ValueError: the line is damaged.
    """
    checksum, _, content = raw.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("damaged")
    return content


def parse_line(raw: bytes) -> Line:
    """Return the line in ``raw``, which is without its line break.

    Raises:
        ValueError: the line is damaged, or another version of darkroom wrote it.
    """
    content = unseal(raw)
    try:
        return Line.model_validate_json(content)
    except ValidationError:
        raise ValueError("from another version of darkroom") from None
