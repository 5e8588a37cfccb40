"""Event files, read back as TensorBoard does: what the stages say is there, failures harm nothing."""

import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import precision_score, recall_score
from support import make_spec, start_python, weights_hash
from torch import Tensor, nn

from darkroom.errors import UserError
from darkroom.models.factory import make_classifier
from darkroom.runtime import Runtime
from darkroom.tracking.destinations import tracked
from darkroom.tracking.records import Input, Metrics, Record, Tags
from darkroom.tracking.run import NUM_SHOWN, Run

ReadBack = Callable[[], Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read_back(folder: Path) -> ReadBack:
    """Reads the only run in ``runs``, everything of it."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )

    def read() -> Any:
        [run] = (folder / "runs").iterdir()
        everything = dict.fromkeys(accumulator.DEFAULT_SIZE_GUIDANCE, 0)
        return accumulator.EventAccumulator(f"{run}", everything).Reload()

    return read


def boarded(stage: str = "train", given: str = "runs") -> Any:
    return tracked(stage, Runtime(tracking="off", tensorboard=given))


def picture(events: Any, tag: str) -> np.ndarray:
    [image] = events.Images(tag)
    return np.array(Image.open(io.BytesIO(image.encoded_image_string)))


def grid(images: np.ndarray) -> np.ndarray:
    """Lays images ``(n, channels, height, width)`` out as RGB, 8 a row, on black."""
    n, channels, height, width = images.shape
    columns = min(n, 8)
    canvas = np.zeros((-(-n // columns) * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * height, i % columns * width
        rgb = np.broadcast_to(image, (3, height, width)) if channels == 1 else image
        canvas[y : y + height, x : x + width] = rgb.transpose(1, 2, 0)
    return canvas


def random_images(n: int, channels: int = 1, height: int = 8, width: int = 8) -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def batch(images: Tensor) -> tuple[Tensor, Tensor]:
    return images, torch.zeros(len(images), dtype=torch.int64)


def test_every_metric_is_there_under_its_name_and_step(read_back: ReadBack) -> None:
    with boarded() as run:
        for step in range(1, 301):
            run.log_metrics({"train/loss": 1 / step, "train/lr": step}, step=step)
        run.log_metrics({"best": 0.25})
    events = read_back()
    assert sorted(events.Tags()["scalars"]) == ["best", "train/loss", "train/lr"]
    losses = {point.step: point.value for point in events.Scalars("train/loss")}
    assert losses == {step: np.float32(1 / step) for step in range(1, 301)}
    assert [(point.step, point.value) for point in events.Scalars("best")] == [(0, 0.25)]
    times = [point.wall_time for point in events.Scalars("train/lr")]
    assert times == sorted(times)


def test_parameters_are_a_table(read_back: ReadBack) -> None:
    with boarded() as run:
        run.log_params({"train.lr": 0.1, "train.clip_norm": None, "data.label_separator": "|"})
    [text] = read_back().Tensors("params/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert lines[2:] == [
        "| train.lr | 0.1 |",
        "| train.clip_norm | null |",
        "| data.label_separator | \\| |",
    ]


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (5, 3), (NUM_SHOWN, 1), (NUM_SHOWN + 7, 3)])
def test_the_first_batch_is_shown_as_the_model_sees_it(
    read_back: ReadBack, n: int, channels: int
) -> None:
    images = random_images(n, channels, 8, 6)
    expected = grid(images[:NUM_SHOWN].numpy())
    batches = [batch(images), batch(255 - images)]
    with boarded() as run:
        for passed, original in zip(run.watch(batches, nn.Flatten()), batches, strict=True):
            assert passed is original
            passed[0].zero_()  # the memory of a batch may be used anew
        list(run.watch(batches, nn.Flatten()))  # the second epoch
    np.testing.assert_array_equal(picture(read_back(), "train/first_batch"), expected)


def test_mixed_images_are_rounded(read_back: ReadBack) -> None:
    images = random_images(4).float() + torch.tensor([-0.4, 0.0, 0.4, 0.4]).reshape(4, 1, 1, 1)
    with boarded() as run:
        list(run.watch([batch(images)], nn.Flatten()))
    shown = picture(read_back(), "train/first_batch")
    np.testing.assert_array_equal(shown, grid(random_images(4).numpy()))


def test_the_graph_names_the_layers_and_leaves_the_model_alone(read_back: ReadBack) -> None:
    model = make_classifier(make_spec(dropout=0.5))
    model.train()
    model.network.backbone.eval()  # as a frozen part is
    modes = {name: module.training for name, module in model.named_modules()}
    weights, generator = weights_hash(model), torch.get_rng_state()
    with boarded() as run:
        list(run.watch([batch(random_images(4))], model))
    assert weights_hash(model) == weights
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), generator)
    nodes = [node.name for node in _graph(read_back()).node]
    assert any("network" in name and "head" in name for name in nodes)


def _graph(events: Any) -> Any:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    return GraphDef.FromString(events._graph)


class Untraceable(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("it depends\non the data")


def test_a_model_that_cannot_be_traced_costs_one_line(
    read_back: ReadBack, capfd: pytest.CaptureFixture[str]
) -> None:
    with boarded() as run:
        list(run.watch([batch(random_images(4))], Untraceable()))
        run.log_metrics({"after": 1.0})
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "tracking: the model's graph is not written for TensorBoard: it depends\n"
    events = read_back()
    assert events._graph is None
    assert events.Tags()["scalars"] == ["after"]
    assert events.Tags()["images"] == ["train/first_batch"]


def test_precision_and_recall_are_scikit_learns(read_back: ReadBack) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 200)
    probabilities[0] = (1, 0, 0)
    targets = generator.integers(0, 2, (200, 3)) > 0
    with boarded("evaluate") as run:
        run.log_pr_curves("abc", torch.from_numpy(targets), torch.from_numpy(probabilities))
    events = read_back()
    thresholds = np.arange(127) / 126
    for i, name in enumerate("abc"):
        [curve] = events.Tensors(f"test/precision_recall/{name}")
        rows = np.reshape(curve.tensor_proto.float_val, (6, 127))
        has_label = targets[:, i]
        for score, row in ((precision_score, rows[4]), (recall_score, rows[5])):
            expected = [
                score(has_label, probabilities[:, i] >= least, zero_division=0) for least in thresholds
            ]
            np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_a_class_without_images_has_no_curve(read_back: ReadBack) -> None:
    given = np.eye(3)[[0, 1, 0, 1]] > 0
    with boarded("evaluate") as run:
        run.log_pr_curves("abc", torch.from_numpy(given), torch.full((4, 3), 1 / 3))
    assert read_back().Tags()["tensors"] == [f"test/precision_recall/{name}" for name in "ab"]


def test_the_figures_of_a_stage_are_shown(read_back: ReadBack, folder: Path) -> None:
    pixels = random_images(1, 3, 20, 30)[0].permute(1, 2, 0).numpy()
    (folder / "reports/evaluate/plots").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "reports/evaluate/plots/roc.png")
    (folder / "reports/evaluate/metrics.json").write_text("{}")
    with boarded("evaluate") as run:
        run.log_artifacts(Path("reports/evaluate"), Path("reports/evaluate/metrics.json"))
    events = read_back()
    assert events.Tags()["images"] == ["reports/evaluate/plots/roc.png"]
    np.testing.assert_array_equal(picture(events, "reports/evaluate/plots/roc.png"), pixels)


def test_the_stage_does_not_wait_for_the_writer(
    read_back: ReadBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    stalled, go_on = threading.Event(), threading.Event()
    add_scalar = SummaryWriter.add_scalar

    def add_slowly(*arguments: Any) -> None:
        stalled.set()
        assert go_on.wait(60)
        add_scalar(*arguments)

    monkeypatch.setattr(SummaryWriter, "add_scalar", add_slowly)
    with boarded() as run:
        for step in range(100):
            run.log_metrics({"loss": 1.0}, step)
        assert stalled.wait(60)  # with the first one, and all are told
        go_on.set()
    assert len(read_back().Scalars("loss")) == 100


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(143)])
def test_what_was_said_before_the_end_is_written(read_back: ReadBack, error: BaseException) -> None:
    def stage() -> None:
        with boarded() as run:
            run.log_metrics({"reached": 1.0})
            raise error

    hook = threading.excepthook
    with pytest.raises(type(error)):
        stage()
    assert read_back().Tags()["scalars"] == ["reached"]
    assert threading.excepthook == hook


def test_every_destination_is_told(read_back: ReadBack) -> None:
    told: list = []

    class Destination:
        def record(self, record: Record, producer: str | None = None) -> None:
            told.append((record, producer))

        def resume(self, memo: Path) -> None: ...

    board: list = []
    run = Run(Destination(), board.append)
    run.log_metrics({"a": 1.0})
    run.log_tags({"b": "c"})
    model_run = run.log_input(Path("model"), "abc")
    assert board == [record for record, _ in told]
    assert [type(record) for record in board] == [Metrics, Tags, Input]
    assert board[-1] == Input(artifact="model", digest="abc", as_child=False)
    model_run.log_metrics({"test/a": 2.0})
    assert told[-1][1] == "model"
    assert len(board) == 3  # TensorBoard shows the stage's own run alone


def test_runs_do_not_share_a_folder(folder: Path, read_back: ReadBack) -> None:
    for _ in range(2):
        with boarded() as run:
            run.log_metrics({"a": 1.0})
    assert len(list((folder / "runs").glob("train-*/events.out.tfevents.*"))) == 2


@pytest.mark.parametrize(
    ("stage", "runtime"),
    [
        ("train", Runtime(tracking="off")),
        ("evaluate", Runtime(tracking="off")),
        ("prepare", Runtime(tracking="off", tensorboard="runs")),
    ],
)
def test_what_is_not_asked_for_is_not_written(folder: Path, stage: str, runtime: Runtime) -> None:
    with tracked(stage, runtime) as run:
        run.log_metrics({"a": 1.0})
        list(run.watch([batch(random_images(4))], Untraceable()))
    assert not list(folder.iterdir())


def test_a_relative_folder_lies_in_the_project(
    read_back: ReadBack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder / "copy"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DVC_ROOT", f"{folder}")
    with boarded() as run:
        run.log_metrics({"a": 1.0})
    assert read_back().Tags()["scalars"] == ["a"]
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("given", ["reports/train", "models", "runs/../data/mine", "{folder}/export/x"])
def test_a_folder_of_the_pipeline_is_refused(folder: Path, given: str) -> None:
    given = given.format(folder=folder)
    with pytest.raises(UserError, match="DARKROOM_TENSORBOARD=") as refused, boarded(given=given):
        pass
    assert f"={given} is not allowed" in str(refused.value)
    assert not list(folder.iterdir())


PROGRAM = """
import sys
from darkroom.runtime import Runtime
from darkroom.tracking.destinations import tracked
{before}
with tracked("train", Runtime(tracking="off", tensorboard="runs")) as run:
    for step in range(2_500):
        run.log_metrics({{"loss": 1.0}}, step)
print("done")
"""


def outcome_of(before: str) -> tuple[str, str]:
    with start_python(PROGRAM.format(before=before), cwd=Path.cwd()) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.slow
def test_a_missing_package_costs_a_line_that_says_how_to_get_it() -> None:
    out, err = outcome_of("sys.modules['tensorboard'] = None")
    assert out == "done\n"
    assert len(err.splitlines()) == 1
    assert err.startswith("tracking: nothing is written for TensorBoard")
    assert "pip install 'darkroom[tensorboard]'" in err


def test_a_folder_that_cannot_be_made_costs_a_line(
    folder: Path, read_back: ReadBack, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "runs").write_text("a file")
    with boarded() as run:
        run.log_metrics({"loss": 1.0})
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith("tracking: nothing is written for TensorBoard: ")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_a_full_disk_costs_a_line(read_back: ReadBack) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    out, err = outcome_of(limit)
    assert out == "done\n"
    assert len(err.splitlines()) == 1, err
    assert "tracking: nothing more is written for TensorBoard: [Errno 27] File too large" in err
    assert outcome_of("")[1] == ""  # and without the limit none
