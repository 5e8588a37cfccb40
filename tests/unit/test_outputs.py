import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.api import DVCFileSystem
from project import Project
from tiny import cache_file, copied, tiny

from darkroom.dataset.info import load_info
from darkroom.errors import UserError
from darkroom.tracking.ledger.data_digests import prepared_digest, raw_data
from darkroom.tracking.ledger.dvc_hash import bytes_md5, dvc_md5
from darkroom.tracking.ledger.outputs import OutputDamaged, OutputMissing, Outputs
from darkroom.tracking.ledger.results import Content, Result, parse_results
from darkroom.tracking.ledger.revisions import Revisions

pytestmark = pytest.mark.slow

MODEL = "models/model.safetensors"
CURVE = "reports/train/curves/größe.csv"
METRICS = "reports/evaluate/metrics.json"


def model_of(lr: float) -> bytes:
    return f"  lr: {lr}\n  lr_factors: {{head: 2}}\n".encode()


def metrics_of(lr: float) -> bytes:
    return model_of(lr).replace(b"lr", b"f1")


def reader(project: Project, use_remote: bool = True) -> tuple[Revisions, Outputs]:
    revisions = Revisions(project.folder)
    return revisions, Outputs(project.folder, revisions.repository, use_remote)


def at(revisions: Revisions, rev: str, stage: str = "train") -> Result:
    return revisions.results(revisions.find(rev))[stage]


def clear(project: Project, *names: str) -> None:
    for name in names:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def copy(tiny_history: Project, tmp_path: Path) -> Project:
    return copied(tiny_history, tmp_path / "copy")


@pytest.mark.parametrize(
    ("rev", "lr"),
    [("workspace", 0.3), ("HEAD", 0.3), ("HEAD~2", 0.1), ("faster", 0.4), ("restored", 0.1)],
)
def test_files_at_any_revision(tiny_history: Project, rev: str, lr: float) -> None:
    revisions, outputs = reader(tiny_history, use_remote=False)
    train = at(revisions, rev)
    assert outputs.read(train, MODEL) == model_of(lr)
    assert outputs.read(train, CURVE) == model_of(lr)
    assert outputs.read(train, Path("reports/train/history.csv")) == b"loss\n"
    assert sorted(outputs.listing(train, "reports/train")) == ["curves/größe.csv", "history.csv"]
    assert b"digest" in outputs.read(train, "data/prepared/dataset.json")  # a dep
    evaluate = at(revisions, rev, "evaluate")
    assert outputs.read(evaluate, METRICS) == metrics_of(lr)  # in git alone
    assert outputs.read(evaluate, "reports/evaluate/lists/one") == b"1\n"


def test_each_place_serves_alone(copy: Project) -> None:
    revisions, outputs = reader(copy, use_remote=False)
    assert outputs.cache == copy.folder / ".dvc/cache"
    clear(copy, "models", "reports")
    assert outputs.read(at(revisions, "workspace"), MODEL) == model_of(0.3)
    assert outputs.read(at(revisions, "workspace"), CURVE) == model_of(0.3)
    assert outputs.read(at(revisions, "workspace", "evaluate"), METRICS) == metrics_of(0.3)
    assert outputs.read(at(revisions, "HEAD", "evaluate"), "reports/evaluate/lists/one") == b"1\n"
    copy.git("checkout", "reports/evaluate")
    copy.dvc("checkout")
    clear(copy, ".dvc/cache")
    revisions, outputs = reader(copy, use_remote=False)
    assert outputs.read(at(revisions, "HEAD"), MODEL) == model_of(0.3)
    assert outputs.read(at(revisions, "HEAD"), CURVE) == model_of(0.3)
    with pytest.raises(
        OutputMissing, match=f"{MODEL} at [0-9a-f]{{7}} .*not in the folder, DVC's cache"
    ):
        outputs.read(at(revisions, "HEAD~1"), MODEL)
    with pytest.raises(OutputMissing, match="reports/train at "):
        outputs.read(at(revisions, "HEAD~1"), CURVE)
    (copy.folder / MODEL).write_bytes(model_of(0.7))  # edited by hand: not what was recorded
    (copy.folder / CURVE).write_bytes(model_of(0.7))
    revisions, outputs = reader(copy, use_remote=False)
    for path in (MODEL, CURVE):
        with pytest.raises(OutputMissing):
            outputs.read(at(revisions, "HEAD"), path)


def test_a_flipped_byte_in_the_cache_is_reported_and_not_used(copy: Project) -> None:
    revisions, outputs = reader(copy)
    train = at(revisions, "HEAD~1")
    assert outputs.read(train, MODEL) == model_of(0.2)
    file = cache_file(copy, train.outs[MODEL].md5)
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    with pytest.raises(OutputDamaged, match=rf"{MODEL} at \w{{7}}: DVC's cache is damaged: {file}"):
        outputs.read(train, MODEL)
    assert isinstance(OutputDamaged(), UserError)
    listing = cache_file(copy, train.outs["reports/train"].md5)
    listing.write_bytes(listing.read_bytes().replace(b"history", b"histori"))
    with pytest.raises(OutputDamaged, match="reports/train at"):
        reader(copy)[1].read(train, CURVE)
    # DVC itself does not notice
    copy.git("checkout", "--quiet", "HEAD~1")
    copy.dvc("checkout", "--force", MODEL)
    assert (copy.folder / MODEL).read_bytes() != model_of(0.2)
    content[3] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    assert outputs.read(train, MODEL) == model_of(0.2)


def test_dvc_itself_reads_a_flipped_byte_as_good(copy: Project) -> None:
    """If this fails, DVC verifies what it reads, and could replace ``Outputs``."""
    revisions, _ = reader(copy)
    file = cache_file(copy, at(revisions, "HEAD~2").outs[MODEL].md5)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    assert DVCFileSystem(str(copy.folder), rev="HEAD~2").read_bytes(MODEL) == file.read_bytes()


def test_a_workspace_of_links_into_a_damaged_cache(copy: Project) -> None:
    copy.dvc("config", "--local", "cache.type", "symlink")
    copy.dvc("checkout", "--relink")
    assert (copy.folder / MODEL).is_symlink()
    revisions, outputs = reader(copy)
    train = at(revisions, "workspace")
    assert outputs.read(train, MODEL) == model_of(0.3)
    assert outputs.read(train, CURVE) == model_of(0.3)
    cache_file(copy, train.outs[MODEL].md5).write_bytes(model_of(0.4))
    with pytest.raises(OutputDamaged, match=MODEL):
        outputs.read(train, MODEL)


def test_a_cache_elsewhere(copy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear(copy, "models", "reports")
    train = at(Revisions(copy.folder), "HEAD")
    shutil.move(copy.folder / ".dvc/cache", tmp_path / "elsewhere")
    with pytest.raises(OutputMissing):
        reader(copy, use_remote=False)[1].read(train, MODEL)
    copy.dvc("cache", "dir", "--local", str(tmp_path / "elsewhere"))  # as experiments' copies have it
    outputs = reader(copy, use_remote=False)[1]
    assert outputs.cache == Path(copy.dvc("cache", "dir").strip())
    assert outputs.read(train, MODEL) == model_of(0.3)
    copy.dvc("cache", "dir", "--local", "--unset")
    copy.dvc("cache", "dir", "../elsewhere")  # relative to where it is written
    assert reader(copy, use_remote=False)[1].read(train, CURVE) == model_of(0.3)
    copy.dvc("cache", "dir", "--unset")
    with pytest.raises(OutputMissing):
        reader(copy, use_remote=False)[1].read(train, MODEL)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config").write_text(f"[cache]\n    dir = {tmp_path / 'elsewhere'}\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))
    assert reader(copy, use_remote=False)[1].read(train, MODEL) == model_of(0.3)
    (copy.folder / ".dvc/config").write_text("[cache]\n    no_such = 1\n")
    with pytest.raises(UserError, match="no_such"):
        reader(copy)[1].read(train, MODEL)


def test_what_is_in_the_remote_alone(copy: Project, tmp_path: Path) -> None:
    config, store = copy.folder / ".dvc/config", tmp_path / "store"
    train = at(Revisions(copy.folder), "HEAD~1")
    copy.git("checkout", "--quiet", "HEAD~1")
    copy.dvc("checkout")
    copy.dvc("push")  # not --all-commits: for that, DVC reads a relative address from /
    copy.git("checkout", "--quiet", "main")
    clear(copy, "models", "reports", ".dvc/cache")
    outputs = reader(copy)[1]
    assert outputs.read(train, MODEL) == model_of(0.2)
    assert outputs.read(train, CURVE) == model_of(0.2)
    assert not (copy.folder / ".dvc/cache/files").exists()
    with pytest.raises(OutputMissing, match=r"or git$"):
        reader(copy, use_remote=False)[1].read(train, MODEL)

    faster = at(Revisions(copy.folder), "faster")
    with pytest.raises(OutputMissing, match=f"{MODEL} at .* or git, and not in DVC's remote"):
        outputs.read(faster, MODEL)  # was not pushed
    file = store / "files/md5" / train.outs[MODEL].md5[:2] / train.outs[MODEL].md5[2:]
    file.chmod(0o644)
    file.write_bytes(model_of(0.7))
    with pytest.raises(OutputDamaged, match="DVC's remote is damaged"):
        outputs.read(train, MODEL)
    config.write_text("[core]\n")
    with pytest.raises(OutputMissing, match="DVC has no default remote"):
        reader(copy)[1].read(train, MODEL)
    config.write_text(f"[core]\n    remote = s\n['remote \"s\"']\n    url = {config}\n")
    with pytest.raises(OutputMissing, match="DVC's remote does not answer: "):
        reader(copy)[1].read(train, MODEL)
    (copy.folder / ".dvc").rename(copy.folder / "dvc_gone")
    with pytest.raises(OutputMissing, match="no DVC project"):
        reader(copy)[1].read(train, MODEL)


def test_what_a_result_does_not_name(tiny_history: Project) -> None:
    revisions, outputs = reader(tiny_history)
    train = at(revisions, "HEAD")
    with pytest.raises(OutputMissing, match=f"neither an output nor a dep of train.*{MODEL}"):
        outputs.read(train, METRICS)
    with pytest.raises(OutputMissing, match="reports/train contained no such file"):
        outputs.read(train, "reports/train/none.csv")
    with pytest.raises(OutputMissing, match="reports/train is a folder"):
        outputs.read(train, "reports/train")
    for path in (MODEL, "reports/train/curves"):
        with pytest.raises(OutputMissing, match="not recorded as a folder"):
            outputs.listing(train, path)
    with pytest.raises(OutputMissing):
        outputs.read(train, "models")


def test_copies(tiny_history: Project, tmp_path: Path) -> None:
    revisions, outputs = reader(tiny_history)
    train = at(revisions, "faster")
    outputs.copy(train, "reports/train", tmp_path / "a/b")
    outputs.copy(train, MODEL, tmp_path / "c/model")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a/b/curves/größe.csv", "a/b/history.csv", "c/model"}
    assert (tmp_path / "c/model").read_bytes() == model_of(0.4)
    assert (tmp_path / "a/b/curves/größe.csv").read_bytes() == model_of(0.4)


def test_a_listing_cannot_lead_out_of_its_folder(copy: Project) -> None:
    _, outputs = reader(copy)
    content = json.dumps([{"md5": "0" * 32, "relpath": "../x"}]).encode()
    md5 = bytes_md5(content) + ".dir"
    file = copy.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(OutputDamaged, match="outside"):
        outputs.listing(Result("train", {}, {}, {"out": Content(md5, 0)}), "out")


@pytest.mark.parametrize(("dvc_folder", "pipeline_folder"), [("ml", "ml"), ("", "pipe")])
def test_a_pipeline_in_a_folder_of_the_repository(
    tmp_path: Path, dvc_folder: str, pipeline_folder: str
) -> None:
    project = tiny(tmp_path / "repository", dvc_folder, pipeline_folder)
    project.dvc("push")
    clear(project, "models", "reports")
    revisions, outputs = reader(project, use_remote=False)
    assert outputs.read(at(revisions, "HEAD"), CURVE) == model_of(0.1)
    evaluate = at(revisions, "HEAD", "evaluate")
    assert outputs.read(evaluate, METRICS) == metrics_of(0.1)
    assert outputs.read(evaluate, "reports/evaluate/lists/one") == b"1\n"
    shutil.rmtree(tmp_path / "repository" / dvc_folder / ".dvc/cache")
    assert reader(project)[1].read(at(revisions, "HEAD"), CURVE) == model_of(0.1)


def test_without_git(copy: Project) -> None:
    clear(copy, ".git", "models", "reports")
    config = copy.folder / ".dvc/config"
    config.write_text(config.read_text().replace("[core]", "[core]\n    no_scm = true"))
    revisions, outputs = reader(copy)
    assert outputs.read(at(revisions, "workspace"), CURVE) == model_of(0.3)
    with pytest.raises(OutputMissing, match="and not in DVC's remote"):
        outputs.read(at(revisions, "workspace", "evaluate"), METRICS)


def test_neither_mlflow_nor_dvc_is_imported_for_what_lies_here(tiny_history: Project) -> None:
    code = (
        "import sys\n"
        "from darkroom.tracking.ledger import data_digests, dvc_hash\n"
        "from darkroom.tracking.ledger.outputs import Outputs\n"
        "from darkroom.tracking.ledger.revisions import Revisions\n"
        "revisions = Revisions()\n"
        "results = revisions.results(revisions.find('workspace'))\n"
        "outputs = Outputs(repository=revisions.repository)\n"
        f"outputs.read(results['train'], {MODEL!r})\n"
        "print({'mlflow', 'dvc', 'dvc_data', 'torch', 'pandas'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tiny_history.folder, capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_raw_and_prepared_data(copy: Project) -> None:
    revisions, outputs = reader(copy)
    results = revisions.results(revisions.find("HEAD"))
    raw = raw_data(results)
    assert raw is not None
    assert raw.md5 == dvc_md5(copy.folder / "data/fetched/digits")
    assert raw.md5.endswith(".dir")
    digest = prepared_digest(results, outputs)
    assert digest is not None
    assert digest == json.loads((copy.folder / "data/prepared/dataset.json").read_text())["digest"]
    for path in ("./data/fetched/digits/", "data//fetched/digits"):
        prepare = Result("prepare", {"data.path": path}, results["prepare"].deps, {})
        assert raw_data({"prepare": prepare}) == raw
    tar = Result("prepare", {"data.path": "data/mine.tar"}, {"data/mine.tar": Content("0" * 32, 7)}, {})
    assert raw_data({"prepare": tar}) == Content("0" * 32, 7)
    for broken in (
        {},
        {"prepare": Result("prepare", {}, tar.deps, {})},
        {"prepare": Result("prepare", {"data.path": "data/other"}, tar.deps, {})},
    ):
        assert raw_data(broken) is None
        assert prepared_digest(broken, outputs) is None
    clear(copy, ".dvc/cache", "data/prepared")
    with pytest.raises(OutputMissing, match=r"data/prepared/dataset\.json"):
        prepared_digest(results, reader(copy)[1])


def test_dataset_json_without_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "data/prepared/dataset.json"
    file.parent.mkdir(parents=True)
    for content in (b"{}", b"[1]", b"not JSON", b'{"digest": 1}', b"\xff"):
        file.write_bytes(content)
        outs = {"data/prepared/dataset.json": Content(bytes_md5(content), len(content))}
        assert prepared_digest({"prepare": Result("prepare", {}, {}, outs)}, Outputs(tmp_path)) is None


def test_the_whole_project(finished: Project) -> None:
    revisions, outputs = reader(finished, use_remote=False)
    results = revisions.results(revisions.find("HEAD"))
    assert list(results) == ["fetch", "prepare", "train", "evaluate", "export"]
    info = load_info(finished.folder / "data/prepared/dataset.json")
    assert prepared_digest(results, outputs) == info.digest
    raw = raw_data(results)
    assert raw is not None
    assert raw.md5 == dvc_md5(finished.folder / "data/fetched/digits")
    for result in results.values():
        for path, content in result.outs.items():
            files = (
                [f"{path}/{file}" for file in outputs.listing(result, path)]
                if (content.md5.endswith(".dir"))
                else [path]
            )
            for file in files:
                assert outputs.read(result, file) == (finished.folder / file).read_bytes()
    lock = parse_results(finished.text("dvc.lock"))
    assert {one.digest for one in lock.values()} == {one.digest for one in results.values()}
