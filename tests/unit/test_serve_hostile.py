"""300 hostile requests to one `darkroom serve`: all refused, and afterwards it answers as before."""

from collections import Counter
from pathlib import Path

import pytest
from hostile_requests import KINDS, WITHOUT_ANSWER, hostile_requests, is_clear, resident_mib, send_all
from served import serving
from served_exports import NAMES, draw, write_export

from darkroom.prediction.predictor import Predictor

pytestmark = pytest.mark.slow

NUMBER = 300


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory in /proc")
def test_300_hostile_requests_are_refused_and_change_nothing(tmp_path: Path) -> None:
    exported = write_export(tmp_path / "export")
    image = tmp_path / "image.png"
    image.write_bytes(draw(0))
    [expected] = Predictor(exported).predict([image], len(NAMES))
    folder = tmp_path / "cwd"
    folder.mkdir()
    options = ("--max-body-mib", 1, "--max-pixels", 1_000_000, "--client-seconds", 10)
    with serving(exported, *options, cwd=folder, DARKROOM_WORKERS="2", TMPDIR=f"{folder}") as served:
        before = resident_mib(served)
        statuses: Counter[tuple[str, int]] = Counter()
        for (kind, content), answer in send_all(served, hostile_requests(), NUMBER):
            statuses[kind, answer.status if answer else 0] += 1
            if answer is None:
                assert kind in WITHOUT_ANSWER, content[:300]
                continue
            assert is_clear(answer), (kind, answer, content[:300])
            assert str(tmp_path) not in answer.body.decode()
        assert sum(statuses.values()) == NUMBER
        assert {kind for kind, _ in statuses} == set(KINDS)
        assert sum(n for (_, status), n in statuses.items() if not status) < NUMBER / 20, statuses
        found = served.predict(image.read_bytes(), "?top_k=99").prediction
        assert [one["probability"] for one in found["top"]] == list(expected.probabilities)
        assert served.metric("darkroom_images_waiting") == 0
        # 8 bodies of 1 MiB, 2 images of a million pixels, and what an allocator keeps
        assert resident_mib(served, "VmHWM") - before < 150
        assert served.lines[1:] == []  # nothing failed, and no client writes to the log
        assert not list(folder.iterdir())
        assert served.end() == 0
