"""The bill of materials of an export: the Python packages that its files need, as CycloneDX 1.6.

It says which versions were installed when the files were written and checked.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from darkroom.digests import file_sha256

SBOM = "sbom.cdx.json"

_LICENSE_CLASSIFIER = "License :: OSI Approved :: "


def bill_of_materials(name: str, readers: Mapping[Path, str], packages: Iterable[str]) -> dict[str, Any]:
    """Return the bill of materials of an exported model as CycloneDX 1.6.

    There is no serial number and no time, so that it has the same bytes on a rerun.

    Args:
        name: of the model.
        readers: the package that reads each file of the export.
        packages: what else is needed to make the model's input.
    """
    needed = {canonicalize_name(package) for package in (*readers.values(), *packages)}
    found = _with_requirements(sorted(needed))
    refs = {package: _purl(package, distribution(package).version) for package in found}
    files = [
        {
            "type": "machine-learning-model",
            "bom-ref": file.name,
            "name": file.name,
            "hashes": [{"alg": "SHA-256", "content": file_sha256(file)}],
        }
        for file in readers
    ]
    libraries = [_library(package, refs[package]) for package in sorted(found)]
    of_model = [file.name for file in readers] + [refs[canonicalize_name(each)] for each in packages]
    depends = {
        "model": of_model,
        **{file.name: [refs[canonicalize_name(package)]] for file, package in readers.items()},
        **{refs[package]: [refs[required] for required in found[package]] for package in sorted(found)},
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "machine-learning-model", "bom-ref": "model", "name": name},
            "tools": {"components": [{"type": "application", "name": "darkroom"}]},
        },
        "components": [*files, *libraries],
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in depends.items()],
    }


def _with_requirements(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the packages that some packages need, at any depth, and what each requires."""
    extras: dict[str, set[str]] = {name: set() for name in names}
    found: dict[str, list[str]] = {}
    todo = list(extras)
    while todo:
        name = todo.pop()
        required: set[str] = set()
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            package = canonicalize_name(requirement.name)
            if not _applies(requirement, extras[name]) or not _is_installed(package):
                continue
            required.add(package)
            if package not in extras or not requirement.extras <= extras[package]:
                extras[package] = extras.get(package, set()) | requirement.extras
                todo.append(package)
        found[name] = sorted(required - {name})
    return found


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _library(package: str, ref: str) -> dict[str, Any]:
    installed = distribution(package)
    return {
        "type": "library",
        "bom-ref": ref,
        "name": package,
        "version": installed.version,
        "purl": ref,
        **({"licenses": licenses} if (licenses := _licenses(installed)) else {}),
    }


def _licenses(installed: Distribution) -> list[dict[str, Any]]:
    metadata = installed.metadata
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    names = [
        classifier.removeprefix(_LICENSE_CLASSIFIER)
        for classifier in metadata.get_all("Classifier", [])
        if classifier.startswith(_LICENSE_CLASSIFIER)
    ]
    stated = metadata["License"].strip() if "License" in metadata else ""
    if not names and stated and "\n" not in stated:  # some packages put the whole text there
        names = [stated]
    return [{"license": {"name": name}} for name in sorted(names)]


def _purl(package: str, version: str) -> str:
    return f"pkg:pypi/{package}@{quote(version, safe='')}"
