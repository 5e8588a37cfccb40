import json
from pathlib import Path

import pytest
from project import ROOT
from ruamel.yaml import YAML

from darkroom.errors import UserError
from darkroom.params import flatten, load_params
from darkroom.tracking.ledger.results import Content, parse_results

LOCK = """\
schema: '2.0'
stages:
  fetch@digits:
    cmd: fetch digits
    outs:
    - path: data/digits
      hash: md5
      md5: 6978e56e10f185344f681cfe7cde0a97.dir
      size: 220329
      nfiles: 1797
  train:
    cmd: train
    deps:
    - path: code.py
      hash: md5
      md5: 98ca72ff4dc3a8c5a8ded0eb7b72e4a5
      size: 28461
    params:
      other.yaml:
        width: 3
      params.yaml:
        data.path: data/digits
        seed: 0
        train:
          lr: 1e-3
          lr_factors:
            head: 2.0
          patience:
          transforms: []
          nesterov: true
    outs:
    - path: model
      hash: md5
      md5: ec92ab1c2c1626af3615bd16dc40cdc6
      size: 270368
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_an_entry_is_read_with_its_types() -> None:
    results = parse_results(LOCK, COMMIT)
    assert list(results) == ["fetch@digits", "train"]
    assert results["fetch@digits"].verb == "fetch"
    train = results["train"]
    assert train.params == {
        "other.yaml:width": 3,
        "data.path": "data/digits",
        "seed": 0,
        "train.lr": 0.001,  # YAML 1.2, as DVC reads it
        "train.lr_factors": {"head": 2.0},
        "train.patience": None,
        "train.transforms": [],
        "train.nesterov": True,
    }
    assert train.deps == {"code.py": Content("98ca72ff4dc3a8c5a8ded0eb7b72e4a5", 28461)}
    assert train.outs == {"model": Content("ec92ab1c2c1626af3615bd16dc40cdc6", 270368)}
    assert train.revision == COMMIT


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("cmd: train", "cmd: train --quietly", True),
        ("98ca72ff", "00ca72ff", True),  # code that made no difference
        ("seed: 0", "seed: 1", False),
        ("head: 2.0", "head: 3.0", False),
        ("ec92ab1c", "00ab1c00", False),
        ("path: model", "path: model2", False),
    ],
)
def test_a_digest_is_of_stage_params_and_outputs(old: str, new: str, is_same: bool) -> None:
    assert old in LOCK
    before, after = parse_results(LOCK)["train"], parse_results(LOCK.replace(old, new), COMMIT)["train"]
    assert (before.digest == after.digest) == is_same


def test_a_digest_is_of_the_stage_and_not_of_the_order() -> None:
    lock = YAML(typ="safe").load(LOCK)
    values = lock["stages"]["train"]["params"]["params.yaml"]
    assert parse_results(json.dumps(lock))["train"].digest == parse_results(LOCK)["train"].digest
    lock["stages"]["train"]["params"]["params.yaml"] = dict(reversed(values.items()))
    assert parse_results(json.dumps(lock))["train"].digest == parse_results(LOCK)["train"].digest
    renamed = parse_results(LOCK.replace("  train:\n    cmd", "  train2:\n    cmd"))["train2"]
    assert renamed.digest != parse_results(LOCK)["train"].digest


def test_the_lock_of_this_project_names_params_as_they_are_named_elsewhere() -> None:
    results = parse_results((ROOT / "dvc.lock").read_text())
    train = results["train"].params
    known = flatten(load_params(ROOT / "params.yaml"))
    assert train["train.lr_factors"] == {}
    assert len(train) > 40
    assert set(train) <= set(known)
    assert set(results) == {"fetch", "prepare", "train", "evaluate", "export"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schema: '2.0'\nstages: [\n", "dvc.lock at 0123456, line 3: "),
        ("<<<<<<< HEAD\nschema: '2.0'\n=======\n", "merge conflict"),
        ("train:\n  cmd: x\n", "no schema; darkroom reads schema 2.0"),
        ("schema: '3.0'\nstages: {}\n", "schema 3.0; darkroom reads schema 2.0"),
        ("- a\n- b\n", "no schema"),
        ("just text", "no schema"),
        ("a: 1\na: 2\n", "dvc.lock at 0123456, line 2: "),
        ("a: \0", "dvc.lock at 0123456: not YAML"),
    ],
)
def test_what_cannot_be_understood_is_one_message(text: str, says: str) -> None:
    with pytest.raises(UserError, match=r"^dvc\.lock at 0123456") as error:
        parse_results(text, COMMIT)
    assert says in str(error.value)


def test_in_the_workspace_the_message_names_the_file_alone() -> None:
    with pytest.raises(UserError, match=r"^sub/dvc\.lock: no schema"):
        parse_results("text", file=Path("sub/dvc.lock"))


def test_what_is_usable_is_used() -> None:
    lock = """\
schema: '2.0'
stages:
  empty: {cmd: x}
  none:
  list: [1]
  web:
    cmd: y
    deps:
    - {path: 'https://example.org/x', checksum: '"etag"'}
    - {md5: ec92ab1c2c1626af3615bd16dc40cdc6}
    - 7
    params: {params.yaml: {1: 2, when: 2026-01-02, deep: {1: {x: .nan}}}, odd: 3}
    outs:
    - {path: out, md5: ec92ab1c2c1626af3615bd16dc40cdc6}
"""
    results = parse_results(lock)
    assert list(results) == ["web"]
    web = results["web"]
    assert (web.deps, web.outs) == ({}, {"out": Content("ec92ab1c2c1626af3615bd16dc40cdc6", None)})
    assert {**web.params, "deep.1.x": 0} == {"1": 2, "when": "2026-01-02", "deep.1.x": 0}
    assert len(web.digest) == 64
    assert parse_results("") == {}
    assert parse_results("schema: '2.0'\n") == {}
