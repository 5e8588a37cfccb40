"""How unlike the training images an image is, against scikit-learn, and inside the exported formats."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance, LedoitWolf, ledoit_wolf
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from support import make_spec, two_brightnesses, unlabelled, weights_hash, write_shards
from torch import Tensor

from darkroom.dataset.shards import Shards
from darkroom.dataset.storage import Storage
from darkroom.errors import UserError
from darkroom.evaluation.evaluate import evaluate
from darkroom.evaluation.tables import write_predictions
from darkroom.evaluation.unfamiliarity import compute_outputs, with_unfamiliarity
from darkroom.export.formats import write_formats
from darkroom.export.parity import check_parity
from darkroom.export.source import ExportedModel, Source, output_names
from darkroom.loading.batches import Batches
from darkroom.metrics.remarks import remarks_on
from darkroom.models.classifier import Classifier, probabilities_of
from darkroom.models.factory import make_classifier
from darkroom.models.file import load_model, save_model
from darkroom.models.spec import ModelSpec
from darkroom.models.unfamiliarity import Unfamiliarity
from darkroom.reporting.scores import unfamiliar_sentence
from darkroom.training import unfamiliarity
from darkroom.training.job import Job
from darkroom.training.unfamiliarity import (
    MAX_COMPONENTS,
    fit,
    fit_unfamiliarity,
    group_numbers,
    principal_components,
    shrunk_covariance,
    threshold_rank,
)

DIGITS = tuple("0123456789")


def blobs(num_rows: int, num_features: int, seed: int = 0) -> tuple[Tensor, NDArray[np.int64]]:
    """Three correlated clouds of points, and the number of each point's cloud."""
    mixing = np.random.default_rng(9).normal(size=(num_features, num_features)) / num_features**0.5
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_rows)
    points = rng.normal(size=(num_rows, num_features)) @ mixing + 2 * np.eye(num_features)[labels]
    return torch.from_numpy(points).float(), labels


def unit(vectors: Tensor) -> NDArray[np.float64]:
    """The vectors divided by their lengths."""
    rows = vectors.double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scores_of(module: Unfamiliarity, vectors: Tensor) -> NDArray[np.float64]:
    return module(vectors).double().numpy()


# against scikit-learn


def test_the_covariance_is_shrunk_as_by_scikit_learn() -> None:
    for num_rows, num_features in ((20, 5), (10, 30), (500, 8)):
        offsets = blobs(num_rows, num_features)[0].double()
        expected = ledoit_wolf(offsets.numpy(), assume_centered=True)[0]
        np.testing.assert_allclose(shrunk_covariance(offsets).numpy(), expected, atol=1e-12)
        plain = EmpiricalCovariance(assume_centered=True).fit(offsets.numpy()).covariance_
        assert np.abs(expected - plain).max() > 1e-3


def test_the_distance_is_mahalanobis_from_the_nearest_class() -> None:
    (train, labels), (val, _), (other, _) = (blobs(n, 12, n) for n in (300, 99, 50))
    fitted = fit(train, labels, val)
    assert fitted is not None
    assert fitted.description == {
        "false_alarms": 0.05,
        "components": 12,
        "centres": 3,
        "train_images": 300,
        "val_images": 99,
    }
    means = np.stack([unit(train)[labels == label].mean(axis=0) for label in range(3)])
    reference = LedoitWolf(assume_centered=True).fit(unit(train) - means[labels])

    def expected(vectors: Tensor) -> NDArray[np.float64]:
        squares = [reference.mahalanobis(unit(vectors) - mean) for mean in means]
        return np.sqrt(np.min(squares, axis=0))

    threshold = np.sort(expected(val))[94]  # of 99 images, 5 may be above
    np.testing.assert_allclose(scores_of(fitted.module, other), expected(other) / threshold, rtol=1e-5)
    fitted.module.centres.copy_(fitted.module.centres.flip(1))  # the negative twin
    assert not np.allclose(scores_of(fitted.module, other), expected(other) / threshold, rtol=0.01)


def test_what_the_principal_components_lose_is_added_in_units_of_its_variance() -> None:
    (train, labels), (val, _), (other, _) = (blobs(n, 100, n) for n in (400, 60, 50))
    fitted = fit(train, labels, val)
    assert fitted is not None
    assert fitted.description["components"] == MAX_COMPONENTS
    pca = PCA(MAX_COMPONENTS, svd_solver="covariance_eigh").fit(unit(train))
    reduced = pca.transform(unit(train))
    means = np.stack([reduced[labels == label].mean(axis=0) for label in range(3)])
    reference = LedoitWolf(assume_centered=True).fit(reduced - means[labels])
    variance = pca.noise_variance_ * 399 / 400  # divided by n - 1 there

    def expected(vectors: Tensor) -> NDArray[np.float64]:
        rows = unit(vectors)
        found = pca.transform(rows)
        lost = ((rows - pca.inverse_transform(found)) ** 2).sum(axis=1)
        squares = [reference.mahalanobis(found - mean) for mean in means]
        return np.sqrt(np.min(squares, axis=0) + lost / variance)

    ratios = scores_of(fitted.module, other) / expected(other)
    np.testing.assert_allclose(ratios, 1 / np.sort(expected(val))[57], rtol=1e-4)


def test_the_principal_components_are_those_of_the_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_covariance(offsets: Tensor) -> tuple[Tensor, Tensor]:
        variances, axes = np.linalg.eigh(np.cov(offsets.numpy().T, bias=True))
        return torch.from_numpy(variances[::-1].clip(0).copy()), torch.from_numpy(axes[:, ::-1].copy())

    for num_rows in (300, 90):  # more and fewer than the features
        (train, labels), (val, _), (other, _) = (blobs(n, 200, n) for n in (num_rows, 60, 50))
        offsets = train.double() - train.double().mean(dim=0)
        variances, axes = principal_components(offsets)
        expected, expected_axes = of_covariance(offsets)
        assert len(variances) == axes.shape[1] == min(num_rows, 200)
        np.testing.assert_allclose(variances, expected[: len(variances)], atol=1e-12)
        turned = (axes.T @ expected_axes[:, : len(variances)])[: num_rows // 2, : num_rows // 2]
        np.testing.assert_allclose(turned.abs(), np.eye(num_rows // 2), atol=1e-6)
        fitted = fit(train, labels, val)
        with monkeypatch.context() as patch:
            patch.setattr(unfamiliarity, "principal_components", of_covariance)
            reference = fit(train, labels, val)
        assert fitted is not None
        assert reference is not None
        scores = scores_of(reference.module, other)
        np.testing.assert_allclose(scores_of(fitted.module, other), scores, rtol=1e-4)


# the threshold


def test_few_validation_images_give_no_threshold_and_more_the_conformal_quantile() -> None:
    assert [threshold_rank(n) for n in (1, 18, 19, 38, 39, 99, 199, 1000)] == [
        *(None, None, 19, 38, 38, 95, 190, 951)
    ]
    train, labels = blobs(100, 6)
    assert fit(train, labels, blobs(18, 6, 1)[0]) is None
    assert fit(train, labels, blobs(19, 6, 1)[0]) is not None
    assert fit(torch.ones(100, 6), labels, torch.ones(30, 6)) is None  # nothing varies


def test_five_percent_of_further_images_are_above_the_threshold() -> None:
    train, labels = blobs(2000, 8)
    shares = []
    for seed in range(40):
        fitted = fit(train, labels, blobs(59, 8, seed + 100)[0])
        assert fitted is not None
        shares.append((scores_of(fitted.module, blobs(500, 8, seed + 200)[0]) > 1).mean())
    assert abs(np.mean(shares) - 0.05) < 0.015  # its place is the 57th of 60


def test_rare_labels_share_a_centre() -> None:
    several = np.array([[1, 0]] * 6 + [[1, 1]] * 5 + [[0, 1]] * 2 + [[0, 0]])
    assert group_numbers(several).tolist() == [1] * 6 + [2] * 5 + [0] * 3


def test_sets_of_labels_have_centres_as_classes_have() -> None:
    (train, labels), (val, _) = (blobs(n, 6, n) for n in (200, 40))
    by_class, by_set = fit(train, labels, val), fit(train, np.eye(3, dtype=np.uint8)[labels], val)
    assert by_class is not None
    assert by_set is not None
    assert by_set.description == by_class.description
    np.testing.assert_allclose(scores_of(by_set.module, val), scores_of(by_class.module, val), rtol=1e-6)


# the images of a training


def job_on(folder: Path, storage: Storage, batch_size: int, workers: int, seed: int = 0) -> Job:
    """What ``fit_unfamiliarity`` needs of a job: a model, and two splits of two brightnesses."""
    torch.manual_seed(seed)
    splits = {}
    for split, number in (("train", 90), ("val", 70)):
        if not (folder / storage / split).exists():
            images, labels = two_brightnesses(number, seed=number)
            write_shards(folder / storage / split, images, labels, storage)
        shards = Shards(folder / storage / split)
        splits[split] = Batches(shards, torch.device("cpu"), batch_size, workers)
    model = make_classifier(make_spec())
    return cast(
        Job,
        SimpleNamespace(
            model=model,
            info=SimpleNamespace(target="one_class"),
            plain_train=splits["train"],
            val=splits["val"],
            uses_features=lambda epoch: False,
        ),
    )


def test_storage_batches_and_workers_change_no_bit_and_the_model_stays(tmp_path: Path) -> None:
    settings: list[tuple[Storage, int, int]] = [("decoded", 8, 0), ("decoded", 3, 0), ("encoded", 8, 1)]
    hashes = set()
    for given in settings:
        job = job_on(tmp_path, *given)
        before = weights_hash(job.model)
        for _ in range(2):  # a training that was killed in between computes it again
            fitted = fit_unfamiliarity(job, 0)
            assert fitted is not None
            hashes.add((weights_hash(fitted.module), json.dumps(fitted.description)))
        assert weights_hash(job.model) == before
    assert len(hashes) == 1
    other = fit_unfamiliarity(job_on(tmp_path, "decoded", 8, 0, seed=1), 0)  # the negative twin
    assert other is not None
    assert weights_hash(other.module) not in {one for one, _ in hashes}


# a trained model, and its files


@pytest.fixture(scope="module")
def digits() -> tuple[Classifier, ModelSpec, NDArray[np.uint8], NDArray[np.int64]]:
    """A small cnn that was trained on 1,000 digits and validated on 397, and 400 test images."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(np.minimum(pixels * 16, 255).astype(np.uint8)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(labels)
    torch.manual_seed(0)
    spec = make_spec(class_names=DIGITS, width=16)
    model = make_classifier(spec)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(12):
        for part in torch.randperm(1000).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[part]), targets[part]).backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        vectors = model.vectors(images).float()
    fitted = fit(vectors[:1000], labels[:1000], vectors[1000:1397])
    assert fitted is not None
    model.unfamiliarity = fitted.module
    spec = replace(spec, unfamiliarity=fitted.description)
    return model, spec, images[1397:].numpy(), labels[1397:]


Digits = tuple[Classifier, ModelSpec, NDArray[np.uint8], NDArray[np.int64]]


@pytest.mark.slow
def test_digits_are_familiar_and_other_images_are_not(digits: Digits) -> None:
    model, _, images, _ = digits
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    with torch.inference_mode():
        test, inverted, random = (
            model.assess(torch.from_numpy(kind))[1].numpy() > 1 for kind in (images, 255 - images, noise)
        )
    assert 0.01 < test.mean() < 0.12
    assert inverted.mean() > 0.7
    assert random.mean() > 0.4


@pytest.mark.slow
def test_the_score_is_in_the_file_and_an_output_and_the_logits_stay(
    digits: Digits, tmp_path: Path
) -> None:
    model, spec, images, _ = digits
    save_model(model, spec, tmp_path / "checkpoint")
    loaded, read = load_model(tmp_path / "checkpoint")
    assert read == spec
    assert json.loads(json.dumps(read.preprocessing()))["unfamiliarity"] == spec.unfamiliarity
    pixels = torch.from_numpy(images)
    with torch.inference_mode():
        logits, probabilities, scores = ExportedModel(loaded, read)(pixels)
        assert torch.equal(logits, model(pixels))
        assert torch.equal(probabilities, probabilities_of(logits, spec))
        assert torch.equal(scores, model.assess(pixels)[1])
    assert output_names(read) == ["logits", "probabilities", "unfamiliarity"]
    assert output_names(replace(read, unfamiliarity=None)) == ["logits", "probabilities"]


@pytest.mark.slow
def test_every_format_gives_the_same(digits: Digits, tmp_path: Path) -> None:
    model, spec, images, _ = digits
    checkpoint = tmp_path / "checkpoint"
    save_model(model, spec, checkpoint)
    files = write_formats(["onnx", "pt2"], checkpoint, Source(model, spec), tmp_path / "export")
    for parity in check_parity(model, spec, files, unlabelled(images[:50]), 1, 1e-4).values():
        assert parity.to_dict()["unfamiliarity_difference_below"] <= 1e-4
    session = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    [found] = session.run(["unfamiliarity"], {"images": images})
    with torch.inference_mode():
        expected = model.assess(torch.from_numpy(images))[1]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
    shuffled, _ = load_model(checkpoint)
    shuffled.unfamiliarity.mean.copy_(shuffled.unfamiliarity.mean.flip(0))  # the negative twin
    with pytest.raises(UserError, match=r"model\.onnx differs .* in an unfamiliarity; 0\.01 is allowed"):
        check_parity(shuffled, spec, files[1:2], unlabelled(images[:50]), 1, 1e-4)


@pytest.mark.slow
def test_evaluate_counts_false_alarms_with_an_interval(digits: Digits, tmp_path: Path) -> None:
    model, spec, images, labels = digits
    paths = [f"{index}.png" for index in range(len(images))]
    batch = torch.from_numpy(images), torch.from_numpy(labels)
    logits, targets, scores = compute_outputs(model, [batch])
    with torch.inference_mode():
        assert torch.equal(logits, model(batch[0]))
    evaluation = with_unfamiliarity(evaluate(spec, targets, logits, paths), spec, scores, paths)
    measured = evaluation.metrics["unfamiliar"]
    assert measured["share"] == pytest.approx((scores > 1).mean(), abs=1e-6)
    assert measured["share_low"] < measured["share"] < measured["share_high"]
    assert f"{measured['share']:.1%} are unfamiliar" in unfamiliar_sentence(evaluation.metrics)
    write_predictions(evaluation, paths, tmp_path / "predictions.parquet")
    from pandas import read_parquet

    table = read_parquet(tmp_path / "predictions.parquet")
    assert table["unfamiliarity"].tolist() == scores.tolist()
    assert table["unfamiliar"].sum() == (scores > 1).sum()

    def remarks(share_low: float) -> list[str]:
        values = {**measured, "share_low": share_low}
        found = remarks_on({**evaluation.metrics, "per_class": [], "unfamiliar": values})
        return [remark for remark in found if remark.startswith("Unlike the training images")]

    assert len(remarks(0.051)) == 1
    assert remarks(0.05) == []


@pytest.mark.slow
def test_a_model_without_the_statistics_is_evaluated_as_before(digits: Digits, tmp_path: Path) -> None:
    _, spec, images, labels = digits
    spec = replace(spec, unfamiliarity=None)
    model = make_classifier(spec).eval()
    paths = [f"{index}.png" for index in range(len(images))]
    batch = torch.from_numpy(images), torch.from_numpy(labels)
    logits, targets, scores = compute_outputs(model, [batch])
    assert scores is None
    before = evaluate(spec, targets, logits, paths)
    assert with_unfamiliarity(before, spec, scores, paths) is before
    assert unfamiliar_sentence(before.metrics) == ""
    assert "unfamiliarity" not in spec.preprocessing()
    save_model(model, spec, tmp_path / "checkpoint")
    assert load_model(tmp_path / "checkpoint")[0].unfamiliarity is None
