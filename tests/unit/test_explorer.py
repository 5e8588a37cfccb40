"""What the report embeds for its script, and what the script computes from it, under node."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sk
from support import make_spec
from test_multi_label_evaluation import evaluate_noise as evaluate_labels
from test_reporting import HOSTILE_NAMES, SHOWN_NAMES, Evaluated, evaluate_noise

from darkroom.evaluation import explorer
from darkroom.evaluation.explorer import THRESHOLDS, explore, most_telling

SCRIPT = Path(explorer.__file__).with_name("report.js")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate_noise(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate_labels(tmp_path_factory.mktemp("shards of labels"))


def embedded(evaluated: Evaluated, **slices: list[str]) -> dict[str, Any]:
    text = str(explore(evaluated.evaluation, evaluated.shards, slices).json)
    assert not set("<>&") & set(text)
    return json.loads(text)


def in_script(expression: str, **values: Any) -> Any:
    """Returns an expression in the report's script, which there knows no page."""
    code = (
        "require('vm').runInThisContext(require('fs').readFileSync(process.argv[1], 'utf8'));"
        f"const {{ {', '.join(values)} }} = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    done = subprocess.run(
        ["node", "-e", code, SCRIPT],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_each_image_has_its_classes_confidence_loss_and_most_probable_classes(
    evaluation: Evaluated,
) -> None:
    data, probabilities = embedded(evaluation), evaluation.probabilities.numpy()
    assert data["names"] == list(SHOWN_NAMES)
    assert data["loss"] == sorted(data["loss"], reverse=True)
    assert sorted(data["paths"]) == sorted(evaluation.shards.paths)
    for row, path in enumerate(data["paths"]):
        index = evaluation.shards.paths.index(path)
        its, target = probabilities[index], int(evaluation.targets[index])
        assert (data["true"][row], data["predicted"][row]) == (target, int(its.argmax()))
        assert data["confidence"][row] == pytest.approx(1e4 * its.max(), abs=0.5)
        assert data["loss"][row] == pytest.approx(-1e4 * np.log(its[target]), abs=0.5)
        order = np.argsort(-its)
        assert data["top"][row][::2] == order.tolist()
        assert data["top"][row][1::2] == pytest.approx(1e4 * its[order], abs=0.5)
        with Image.open(io.BytesIO(base64.b64decode(data["pictures"][row]))) as picture:
            [pixels] = evaluation.shards.gather(np.array([index]))
            assert np.asarray(picture.convert("L"))[..., None].tolist() == pixels.tolist()


def test_the_most_telling_images_are_mistakes_spread_over_the_cells(evaluation: Evaluated) -> None:
    order = most_telling(evaluation.evaluation).tolist()
    preds = evaluation.probabilities.argmax(dim=1)
    assert sorted(order) == list(range(40))
    wrong = [bool(preds[index] != evaluation.targets[index]) for index in order]
    assert wrong == sorted(wrong, reverse=True)
    cells = [(int(evaluation.targets[index]), int(preds[index])) for index in order]
    num_cells = len({cell for cell, is_wrong in zip(cells, wrong, strict=True) if is_wrong})
    assert len(set(cells[:num_cells])) == num_cells  # the first of each cell
    truth = evaluation.probabilities.gather(1, evaluation.targets[:, None])[:, 0]
    for cell in set(cells):
        its = [float(truth[index]) for index, other in zip(order, cells, strict=True) if other == cell]
        assert its == sorted(its)


def test_pictures_and_lists_end_with_their_budget(
    evaluation: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "PICTURE_BYTES", 2_000)
    monkeypatch.setattr(explorer, "LIST_BYTES", 1_600)
    few = explore(evaluation.evaluation, evaluation.shards)
    assert few.num_images == 40
    assert set(few.indices) == set(most_telling(evaluation.evaluation)[: len(few.indices)].tolist())
    assert 0 < few.num_pictures < len(few.indices) == len(few.columns["true"]) < 40
    assert sum(map(len, few.columns["pictures"])) <= 2_000
    [left_out] = [min(set(range(40)) - set(few.indices))]
    assert few.row(left_out) is None
    assert few.row(few.indices[1]) == 1


def test_names_and_paths_cannot_end_the_script_element(evaluation: Evaluated) -> None:
    data = embedded(evaluation, **{"</script><b>": ["<!--"] * 40})
    assert data["slices"] == {"</script><b>": {"values": ["<!--"], "rows": [0] * 40}}
    assert HOSTILE_NAMES[2] in data["names"]


def test_equal_outcomes_are_equal_bytes_and_others_are_not(
    tmp_path: Path, evaluation: Evaluated
) -> None:
    again, other = (evaluate_noise(tmp_path / f"{seed}", seed) for seed in (0, 1))
    texts = [explore(e.evaluation, e.shards).json for e in (evaluation, again, other)]
    assert texts[0] == texts[1] != texts[2]


@needs_node
@pytest.mark.parametrize("kind", ["evaluation", "labels"])
def test_scores_at_each_threshold_are_those_of_scikit_learn(
    kind: str, request: pytest.FixtureRequest
) -> None:
    evaluated: Evaluated = request.getfixturevalue(kind)
    data = embedded(evaluated)
    assert data["thresholds"] == THRESHOLDS.tolist()
    scores = in_script(
        "positives.map((text, label) => scoresOf(text, negatives[label]))",
        positives=data["positives"],
        negatives=data["negatives"],
    )
    targets = evaluated.targets
    for label, probabilities in enumerate(evaluated.probabilities.numpy().T):
        has_it = (targets[:, label] == 1 if targets.ndim == 2 else targets == label).numpy()
        for threshold, score in list(zip(THRESHOLDS, scores[label], strict=True))[::7]:
            said = probabilities >= threshold
            precision, recall, f1, _ = sk.precision_recall_fscore_support(
                has_it, said, average="binary", zero_division=0
            )
            found = (score["precision"], score["recall"], score["f1"])
            assert found == pytest.approx((precision, recall, f1), abs=1e-12)
            counts = (score["hits"], score["wrong"], score["missed"])
            assert counts == ((has_it & said).sum(), (~has_it & said).sum(), (has_it & ~said).sum())


@needs_node
@pytest.mark.parametrize("kind", ["evaluation", "labels"])
def test_each_cell_of_the_confusion_matrix_selects_its_images(
    kind: str, request: pytest.FixtureRequest
) -> None:
    evaluated: Evaluated = request.getfixturevalue(kind)
    data, confusion = embedded(evaluated), evaluated.evaluation.confusion
    cells = [[int(true), int(predicted)] for true, predicted in np.ndindex(*confusion.shape)]
    numbers = in_script(
        "cells.map(([truth, predicted]) =>"
        " select(imagesOf(data), { ...NOTHING, true: truth, predicted }).length)",
        data=data,
        cells=cells,
    )
    assert numbers == confusion.ravel().tolist()


@needs_node
def test_mistakes_of_a_label_select_their_images(labels: Evaluated) -> None:
    truth, preds = labels.targets.bool(), labels.evaluation.preds
    numbers = in_script(
        "names.map((_, label) => [{ true: label, predicted: label }, { true: label, outcome: 'wrong' },"
        " { predicted: label, outcome: 'wrong' }].map((wanted) =>"
        " select(imagesOf(data), { ...NOTHING, ...wanted }).length))",
        data=embedded(labels),
        names=labels.evaluation.class_names,
    )
    cases = (truth & preds, truth & ~preds, ~truth & preds)
    assert numbers == torch.stack([case.sum(dim=0) for case in cases], dim=1).tolist()


@needs_node
def test_filters_and_orders_are_those_of_numpy(evaluation: Evaluated) -> None:
    parts = ["dark" if index % 3 else "bright" for index in range(40)]
    data = embedded(evaluation, brightness=parts)
    probabilities = evaluation.probabilities.numpy()
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != evaluation.targets.numpy()
    chosen = [i for i in range(40) if wrong[i] and 0.4 <= confidence[i] <= 0.9 and i % 3 == 0]
    chosen.sort(key=lambda index: -confidence[index])
    paths = in_script(
        "select(imagesOf(data), readSelection(address, data)).map((image) => image.path)",
        data=data,
        address="#outcome=wrong&from=0.4&to=0.9&sort=confident&slice.brightness=bright&true=nobody",
    )
    assert paths == [evaluation.shards.paths[index] for index in chosen]
    assert len(paths) > 1


@needs_node
def test_an_address_leads_back_to_its_selection(evaluation: Evaluated) -> None:
    wanted = {
        **{"true": 2, "predicted": 0, "outcome": "wrong", "from": 0.25, "to": 0.5, "sort": "path"},
        **{"slices": {"a&b": "c=d"}, "class": 3, "threshold": 0.25, "image": "2/ü #1.png"},
    }
    back = in_script(
        "readSelection(writeSelection(wanted, data), data)",
        wanted=wanted,
        data=embedded(evaluation, **{"a&b": ["c=d"] * 40}),
    )
    assert back == wanted


def test_a_certain_mistake_has_a_finite_loss(tmp_path: Path, evaluation: Evaluated) -> None:
    from darkroom.evaluation.evaluate import evaluate

    logits = torch.zeros(40, 4)
    logits[:, 0] = 2000
    spec = make_spec(class_names=HOSTILE_NAMES)
    certain = evaluate(spec, evaluation.targets, logits, evaluation.shards.paths)
    assert max(explore(certain, evaluation.shards).columns["loss"]) == pytest.approx(7.08e6, rel=1e-3)
