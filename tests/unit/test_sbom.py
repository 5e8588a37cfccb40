"""The bill of materials of an export: the packages that its files need, in the form of CycloneDX 1.6."""

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from darkroom.export.sbom import bill_of_materials

# of the schema of CycloneDX 1.6: the properties that are required, and all that are allowed here
REQUIRED: dict[str, tuple[set[str], set[str]]] = {
    "": (
        {"bomFormat", "specVersion"},
        {"bomFormat", "specVersion", "version", "metadata", "components", "dependencies"},
    ),
    "component": (
        {"type", "name"},
        {"type", "name", "bom-ref", "version", "purl", "hashes", "licenses"},
    ),
    "hash": ({"alg", "content"}, {"alg", "content"}),
    "dependency": ({"ref"}, {"ref", "dependsOn"}),
}
TYPES = {"application", "library", "machine-learning-model"}

PACKAGES = {
    "Reader_1": """Version: 1.0+local
License-Expression: MIT
Requires-Dist: Needed.Part[fast]>=2
Requires-Dist: windows-only ; sys_platform == "win32"
Requires-Dist: for-tests ; extra == "test"
Requires-Dist: not-installed
""",
    "needed-part": """Version: 2.0
Classifier: License :: OSI Approved :: BSD License
Requires-Dist: reader-1
Requires-Dist: quick ; extra == "fast"
Requires-Dist: slow ; extra == "slow"
""",
    "quick": "Version: 3.0\nLicense: Apache 2.0\n",
    "slow": "Version: 4.0\n",
    "windows-only": "Version: 5.0\n",
    "for-tests": "Version: 6.0\n",
    "decoder": "Version: 7.0\nLicense: first line\n        second line\n",
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the package reader-1 reads, and installed packages that are nothing but metadata."""
    for name, lines in PACKAGES.items():
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\n{lines}")
    monkeypatch.setattr(sys, "path", [f"{tmp_path / 'site'}"])
    (tmp_path / "model.x").write_bytes(b"model")
    return tmp_path / "model.x"


def check_form(bill: dict[str, Any]) -> None:
    def check(kind: str, value: dict[str, Any]) -> None:
        required, allowed = REQUIRED[kind]
        assert required <= {*value} <= allowed, (kind, value)

    check("", bill)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    components = [bill["metadata"]["component"], *bill["components"]]
    for component in (*components, *bill["metadata"]["tools"]["components"]):
        check("component", component)
        assert component["type"] in TYPES
        for each in component.get("hashes", []):
            check("hash", each)
            assert each["alg"] == "SHA-256"
        for each in component.get("licenses", []):
            assert {*each} == {"expression"} or {*each["license"]} == {"name"}
    refs = [component["bom-ref"] for component in components]
    assert len({*refs}) == len(refs)
    assert sorted(each["ref"] for each in bill["dependencies"]) == sorted(refs)
    for each in bill["dependencies"]:
        check("dependency", each)
        assert {*each["dependsOn"]} <= {*refs}
        assert len({*each["dependsOn"]}) == len(each["dependsOn"])


def test_it_lists_what_is_needed_at_any_depth(model: Path) -> None:
    bill = bill_of_materials("cnn", {model: "reader-1"}, ["decoder"])
    check_form(bill)
    assert {each["ref"]: each["dependsOn"] for each in bill["dependencies"]} == {
        "model": ["model.x", "pkg:pypi/decoder@7.0"],
        "model.x": ["pkg:pypi/reader-1@1.0%2Blocal"],
        "pkg:pypi/decoder@7.0": [],
        "pkg:pypi/needed-part@2.0": ["pkg:pypi/quick@3.0", "pkg:pypi/reader-1@1.0%2Blocal"],
        "pkg:pypi/quick@3.0": [],
        "pkg:pypi/reader-1@1.0%2Blocal": ["pkg:pypi/needed-part@2.0"],
    }
    by_name = {each["name"]: each for each in bill["components"]}
    digest = hashlib.sha256(b"model").hexdigest()
    assert by_name["model.x"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert by_name["reader-1"]["licenses"] == [{"expression": "MIT"}]
    assert by_name["needed-part"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert by_name["quick"]["licenses"] == [{"license": {"name": "Apache 2.0"}}]
    assert "licenses" not in by_name["decoder"]


def test_it_has_the_same_bytes_when_it_is_made_again(model: Path) -> None:
    first, second = (
        json.dumps(bill_of_materials("cnn", {model: "reader-1"}, ["decoder"])) for _ in range(2)
    )
    assert first == second
    assert "timestamp" not in first
    assert "serialNumber" not in first
    assert str(model.parent) not in first


def test_it_has_the_installed_versions(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.pt2"):
        (tmp_path / name).write_bytes(name.encode())
    readers = {tmp_path / "model.onnx": "onnxruntime", tmp_path / "model.pt2": "torch"}
    bill = bill_of_materials("cnn", readers, ["pillow"])
    check_form(bill)
    versions = {each["name"]: each.get("version") for each in bill["components"]}
    for name in ("onnxruntime", "numpy", "pillow", "torch", "sympy"):
        assert versions[name] == version(name)
    rows = bill_of_materials("mlp", {tmp_path / "model.onnx": "onnxruntime"}, [])
    assert not {"torch", "pillow"} & {each["name"] for each in rows["components"]}


def test_the_official_schema_accepts_it(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib[json-validation] is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    (tmp_path / "model.onnx").write_bytes(b"model")
    bill = bill_of_materials("cnn", {tmp_path / "model.onnx": "onnxruntime"}, ["pillow"])
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    bill["components"][0]["type"] = "model"
    assert validator.validate_str(json.dumps(bill)) is not None
