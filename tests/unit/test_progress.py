"""Progress where there is no terminal: a line now and then."""

import pytest

from darkroom import progress
from darkroom.progress import progress_bar


def test_nothing_done_for_long_is_no_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    with progress_bar("sync", 4, "runs") as bar:
        bar.advance(0)
        assert capsys.readouterr().err == ""
        bar.advance(1)
        assert "sync: 1 of 4 runs" in capsys.readouterr().err
