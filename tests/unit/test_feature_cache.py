"""The cache of features: the same bytes cold, warm, killed, damaged or shared, in bounded space."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from effort import only_with_all
from numpy.typing import NDArray
from support import augment_options, make_spec, two_brightnesses, write_shards
from torch import nn

from darkroom.augment.pipeline import Augmentation
from darkroom.dataset.shards import Shards
from darkroom.features import extractor, store
from darkroom.features.extractor import Extractor, View, Wanted
from darkroom.features.folding import fold_norms
from darkroom.features.store import Matrix, Store
from darkroom.loading.batches import Batches
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.models.heads import Head

NUM_IMAGES, WIDTH = 50, 8
CHUNK = 16
POLICY = Augmentation(augment_options(policy="randaugment"), 3)
SHIFTS = Augmentation(augment_options(crop_padding=2), 3)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "CHUNK_IMAGES", CHUNK)
    monkeypatch.setattr(extractor, "BATCH_IMAGES", 8)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each batch that a backbone was run on."""
    counted: list[int] = []
    vectors = extractor._vectors

    def count(*given: Any) -> torch.Tensor:
        counted.append(len(given[-1]))
        return vectors(*given)

    monkeypatch.setattr(extractor, "_vectors", count)
    return counted


def split(folder: Path, seed: int = 0, storage: Any = "decoded") -> Shards:
    if not (folder / f"{seed}-{storage}").exists():
        images, labels = two_brightnesses(NUM_IMAGES, seed)
        write_shards(folder / f"{seed}-{storage}", images, labels, storage)
    return Shards(folder / f"{seed}-{storage}")


def make_extractor(folder: Path, seed: int = 0, max_bytes: int = 2**30, **spec: Any) -> Extractor:
    torch.manual_seed(seed)
    model = make_classifier(make_spec(width=WIDTH, **spec))
    return Extractor(model, make_spec(width=WIDTH, **spec), {"torch": "any"}, Store(folder, max_bytes))


def features(
    folder: Path,
    shards: Shards | None = None,
    view: View = View(),  # noqa: B008
    workers: int = 0,
    **spec: Any,
) -> NDArray[np.float32]:
    needs_host = view.augmentation is not None and view.augmentation.needs_host
    images = Batches(
        shards or split(folder), torch.device("cpu"), 5, workers=workers, needs_host=needs_host
    )
    (rows,) = make_extractor(folder / "cache", **spec).features([Wanted(images, view)], "train")
    return rows


def test_rows_are_the_pooled_features_in_the_order_of_the_shards(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_classifier(make_spec(width=WIDTH)).eval()
    assert isinstance(model, Classifier)
    assert isinstance(model.network.head, Head)
    images = torch.from_numpy(two_brightnesses(NUM_IMAGES)[0]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.network.backbone((images / 255 - 0.4) / 0.2).mean((2, 3))
    rows = features(tmp_path)
    torch.testing.assert_close(torch.tensor(rows), expected)
    assert rows.dtype == np.float32
    assert not rows.flags.writeable
    (file,) = (tmp_path / "cache").glob("*/rows.npy")
    assert np.load(file).tobytes() == rows.tobytes()  # an ordinary file of NumPy


def test_norms_are_folded_where_they_can_be() -> None:
    images = torch.rand(5, 1, 8, 8)
    for name, options in {"cnn": {}, "resnet": {"width": 8}, "vit": {"patch_size": 4}}.items():
        backbone = make_classifier(make_spec(name=name, **{"width": 32, **options})).network.backbone
        with torch.no_grad():
            backbone(images * 3 + 1)  # statistics that are not 0 and 1
            folded = fold_norms(backbone.eval())
            torch.testing.assert_close(folded(images), backbone(images), atol=1e-5, rtol=1e-4)
        num_norms = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        assert (folded is backbone) == (name == "vit")
        assert num_norms == 0

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) if x.sum() > 0 else x  # cannot be traced

    branching = Branching().eval()
    assert fold_norms(branching) is branching


def test_a_second_run_computes_nothing_and_says_so(
    tmp_path: Path, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    cold = features(tmp_path)
    assert computed == [8, 8, 8, 8, 8, 8, 2]  # not the batches of the training
    assert "from the cache" not in capsys.readouterr().out
    assert features(tmp_path).tobytes() == cold.tobytes()
    assert sum(computed) == NUM_IMAGES
    assert capsys.readouterr().out == f"train: features of {NUM_IMAGES} images from the cache\n"


CHANGES: dict[str, dict[str, Any]] = {
    "weights": {"seed": 1},
    "normalisation": {"std": (0.3,)},
    "pooling": {"head": "concat_pool"},
    "view": {"view": View(SHIFTS, 0, "shifts")},
    "number of the view": {"view": View(SHIFTS, 1, "shifts")},
    "options of the view": {"view": View(SHIFTS, 0, "other shifts")},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_features_depend_on_has_an_entry_of_its_own(
    tmp_path: Path, computed: list[int], change: dict[str, Any]
) -> None:
    features(tmp_path)
    features(tmp_path, **change)
    assert sum(computed) == 2 * NUM_IMAGES
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_other_pixels_other_threads_and_other_code_have_entries_of_their_own(
    tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    features(tmp_path)
    features(tmp_path, split(tmp_path, seed=1))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    features(tmp_path)
    monkeypatch.setattr(extractor, "ROOMS", ("models",))
    features(tmp_path)
    assert sum(computed) == 4 * NUM_IMAGES


def test_what_features_do_not_depend_on_finds_them(tmp_path: Path, computed: list[int]) -> None:
    features(tmp_path)
    features(tmp_path, head="mlp", dropout=0.5, class_names=("a", "b", "c"))
    assert sum(computed) == NUM_IMAGES


@pytest.mark.slow
@only_with_all
def test_workers_and_storage_do_not_change_a_byte(tmp_path: Path) -> None:
    view = View(POLICY, 2, "policy")
    given: list[tuple[Any, int]] = [("decoded", 0), ("decoded", 4), ("encoded", 1)]
    found = {
        features(tmp_path / f"{workers}", split(tmp_path, storage=storage), view, workers).tobytes()
        for storage, workers in given
    }
    assert len(found) == 1


def test_a_run_that_was_killed_computes_only_what_is_missing(
    tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = features(tmp_path / "other").tobytes()
    computed.clear()
    write = Matrix.write

    def killed(self: Matrix, start: int, rows: NDArray[np.float32]) -> None:
        if start == 2 * CHUNK:
            raise KeyboardInterrupt
        write(self, start, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Matrix, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            features(tmp_path)
    computed.clear()
    assert features(tmp_path).tobytes() == whole
    assert sum(computed) == NUM_IMAGES - 2 * CHUNK


DAMAGES = {
    "a flipped bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "cut off": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "too long": lambda content: content + b"more",
    "its header": lambda content: b"?" + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_noticed_and_computed_again(
    tmp_path: Path, computed: list[int], capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    whole = features(tmp_path).tobytes()
    (file,) = (tmp_path / "cache").glob("*/rows.npy")
    file.write_bytes(damage(file.read_bytes()))
    computed.clear()
    capsys.readouterr()
    rows = features(tmp_path)
    assert rows.tobytes() == whole
    assert np.load(file).tobytes() == whole
    if damage in (DAMAGES["too long"], DAMAGES["its header"]):
        assert not computed  # all features are intact
    else:
        assert "damaged; the features are computed again" in capsys.readouterr().err
        assert 0 < sum(computed) <= NUM_IMAGES


@pytest.mark.parametrize("text", ["", "nonsense", "0 abc\n16", "\xff"])
def test_a_damaged_list_of_checksums_costs_time_and_nothing_else(tmp_path: Path, text: str) -> None:
    whole = features(tmp_path).tobytes()
    (log,) = (tmp_path / "cache").glob("*/chunks.txt")
    log.write_text(text, encoding="latin-1")
    assert features(tmp_path).tobytes() == whole


def matrix(folder: Path, shape: tuple[int, int] = (40, 3)) -> Matrix:
    return Matrix(folder, shape, CHUNK)


def test_two_processes_that_write_the_same_matrix_do_not_harm_each_other(tmp_path: Path) -> None:
    content = np.random.default_rng(0).random((40, 3), np.float32)
    one, two = matrix(tmp_path), matrix(tmp_path)
    assert one.missing == two.missing == [0, 16, 32]
    for start in (0, 16, 32):
        one.write(start, content[start : start + CHUNK])
        two.write(start, content[start : start + CHUNK])
    assert one.rows().tobytes() == two.rows().tobytes() == content.tobytes()
    assert matrix(tmp_path).missing == []


def test_the_least_recently_used_are_removed_but_none_that_is_in_use(tmp_path: Path) -> None:
    """Each matrix has 480 bytes and a header of 128."""
    content = np.ones((40, 3), np.float32)
    for number, key in enumerate(("old", "used", "new")):
        opened = Store(tmp_path, 10_000).open(key, content.shape, 40)
        opened.write(0, content)
        os.utime(tmp_path / key, (number, number))
    Store(tmp_path, 10_000).open("old", content.shape, 40)  # so that it is the newest
    small = Store(tmp_path, 2_000)
    in_use = small.open("used", content.shape, 40).rows()
    small.open("fourth", content.shape, 40)
    assert {path.name for path in tmp_path.iterdir()} == {"old", "used", "fourth"}
    small.open("fifth", content.shape, 40)
    assert {path.name for path in tmp_path.iterdir()} == {"used", "fourth", "fifth"}
    Store(tmp_path, 700).open("sixth", content.shape, 40)  # another process
    assert {path.name for path in tmp_path.iterdir()} == {"sixth"}
    assert in_use.tobytes() == content.tobytes()  # still readable


def test_a_full_disk_is_noticed_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as refused:
        features(tmp_path)
    assert refused.value.filename.endswith("rows.npy")
    assert not computed
    monkeypatch.undo()
