"""`darkroom serve` takes over a new model without a failed request, and keeps the old one if it must."""

from pathlib import Path

import pytest
from served import serving
from served_exports import write_export
from served_load import IMAGE, check_answers, digest_of, expect, load


@pytest.mark.slow
def test_a_good_export_takes_over_and_a_broken_one_does_not(tmp_path: Path) -> None:
    exported = write_export(tmp_path / "export")
    expected = expect(exported, tmp_path / "image.png")
    first = digest_of(exported)
    with serving(exported, "--reload-seconds", 0.1) as served, load(served) as answers:
        content = bytearray((exported / "model.onnx").read_bytes())
        content[200] ^= 1
        (tmp_path / "damaged").write_bytes(content)
        (tmp_path / "damaged").replace(exported / "model.onnx")
        line = served.waits_for("stays in use")
        assert "bytes differ from the recorded" in line
        assert f"export ({first[:12]}) stays in use" in line
        assert served.metric('darkroom_reloads_total{result="failed"}') == 1
        assert served.ask("/ready").json["model"]["sha256"] == first
        write_export(exported, seed=1)
        served.waits_for(f"serve: loaded export ({digest_of(exported)[:12]})")
        expected |= expect(exported, tmp_path / "image.png")
        count = len(answers)
        served.until("answers of the new model", lambda: len(answers) > count + 4)
    assert len(expected) == 2
    check_answers(answers, expected)
    assert answers[-1].json["model"]["sha256"] == digest_of(exported)
    assert len([line for line in served.lines if "bytes differ" in line]) <= 2  # once, not at each look


@pytest.mark.slow
def test_without_reloading_the_first_model_stays(tmp_path: Path) -> None:
    exported = write_export(tmp_path / "export")
    first = digest_of(exported)
    with serving(exported, "--reload-seconds", 0.1, "--no-reload") as served:
        write_export(exported, seed=1)
        for _ in range(20):
            assert served.predict(IMAGE).json["model"]["sha256"] == first
        assert served.metric("darkroom_reloads_total") == 0
    assert digest_of(exported) != first
