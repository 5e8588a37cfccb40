"""The stores behind addresses: which package speaks to each, and what its errors mean."""

import os
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.errors import UserError, brief

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

WEB = ("http", "https")
"""Schemes of web servers, which have no folders and are not written to."""

_RETRY_SECONDS, _REQUEST_SECONDS, _CONNECT_SECONDS = 60, 60, 10
_DENIED = ("ACCESS_DENIED", "Access Denied", "AccessDenied", "HTTP response code 403", "Forbidden")


@cache
def file_system(scheme: str) -> "AbstractFileSystem":
    """Return what reads and writes the files of a scheme.

    Raises:
        UserError: the scheme is unknown, or its package is not installed.
    """
    from fsspec.registry import get_filesystem_class, known_implementations

    try:
        if make := _NATIVE.get(scheme):
            return make()
        return get_filesystem_class(scheme)()
    except ImportError:
        advice = known_implementations.get(scheme, {}).get("err", f"Install the package for {scheme}")
        raise UserError(f"{scheme}://: needs a package that is not installed ({advice})") from None
    except Exception as error:
        raise UserError(
            f"{scheme}://: cannot be used ({brief(error)}); use s3://, gs://, https:// or a path"
        ) from None


def is_denied(error: Exception) -> bool:
    """Return whether an error says that the credentials do not allow this, or no longer."""
    if isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
        return True
    return any(word in f"{error}" for word in _DENIED)


def upload_whole(file: Path, system: "AbstractFileSystem", path: str) -> None:
    """Copy a file to a store, where it is complete or missing.

    Closing a stream that was interrupted would complete the part that was written; pyarrow's copy is
    not interrupted by a signal that Python handles.
    """
    from fsspec.implementations.arrow import ArrowFSWrapper

    if isinstance(system, ArrowFSWrapper):
        from pyarrow.fs import LocalFileSystem, copy_files

        copy_files(os.path.abspath(file), path, LocalFileSystem(), system.fs)
    else:
        system.put_file(os.fspath(file), path)


def _s3() -> Any:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem

    if _has_credentials():
        # otherwise the AWS library looks for a region at the address of EC2's metadata
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    files = S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        request_timeout=_REQUEST_SECONDS,
        connect_timeout=_CONNECT_SECONDS,
    )
    return ArrowFSWrapper(files)


def _has_credentials() -> bool:
    """Return whether credentials for AWS are given, so that those of the machine are not needed."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_PROFILE"):
        return True
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    return os.path.exists(os.path.expanduser(file))


def _gs() -> Any:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import GcsFileSystem

    return ArrowFSWrapper(GcsFileSystem(retry_time_limit=timedelta(seconds=_RETRY_SECONDS)))


_NATIVE = {"s3": _s3, "s3a": _s3, "gs": _gs, "gcs": _gs}
