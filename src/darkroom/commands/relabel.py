"""darkroom relabel: writes a manifest, or a table, with corrected labels."""

from pathlib import Path

import click


@click.command()
@click.argument("table", type=click.Path(dir_okay=False, path_type=Path), metavar="CSV")
@click.option(
    "--out",
    metavar="NAME",
    help="Name of the new manifest or table.  [default: labels.csv, or that of the manifest or table in"
    " use with -relabelled]",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--new-classes", is_flag=True, help="Accept classes that do not occur yet.")
@click.option("--test", is_flag=True, help="Also correct labels of the test split.")
def relabel(table: Path, out: str | None, force: bool, new_classes: bool, test: bool) -> None:
    """Write a manifest with the labels filled into the column new_label of CSV, and without the images
    that have `yes` in its column exclude. If rows of a table are classified, write such a table.

    CSV is the edited table of `darkroom suspects`, or any with the columns path, label, new_label and,
    if images are excluded, exclude. The manifest is written into data.path and also fixes the split of
    every image, so that nothing else changes. Excluded files stay where they are, but are not listed.
    params.yaml is not changed: the values to set are printed.
    """
    from collections import Counter

    from darkroom.collection.entries import SPLITS
    from darkroom.errors import counted
    from darkroom.inputs import INPUT_WORDS
    from darkroom.params import load_params
    from darkroom.paths import MANIFEST, PARAMS
    from darkroom.prediction.table import open_table
    from darkroom.preparation.inputs.interface import prepared_input
    from darkroom.suspects.changes import check_corrections, load_known
    from darkroom.suspects.corrected_manifest import write_corrected
    from darkroom.suspects.findings import read_corrections

    params = load_params(PARAMS)
    known = load_known(MANIFEST)
    separator = params.data.label_separator
    corrections, conflicts = read_corrections(table), prepared_input(params.data.input).keeps_conflicts
    changes = check_corrections(
        corrections, known, separator, table, new_classes, test, keeps_conflicts=conflicts
    )
    corrected = write_corrected(params.data, known, changes, out, open_table, force)
    words = INPUT_WORDS[params.data.input]
    relabelled = [path for path, label in changes.items() if label is not None]
    excluded = [path for path, label in changes.items() if label is None]
    for paths, noun, verb in ((relabelled, "label", "changed"), (excluded, words.one, "excluded")):
        counts = Counter(known[path].split or "unused copies" for path in paths)
        shown = ", ".join(
            f"{counts[where]:,} {where}" for where in (*SPLITS, "unused copies") if counts[where]
        )
        if paths:
            click.echo(f"{corrected.path}: {counted(len(paths), noun)} {verb} ({shown})")
    if corrected.num_unlisted:
        click.echo(f"{counted(corrected.num_unlisted, 'file')} that prepare did not use: not listed")
    settings = {**corrected.params, **({"prepare.fold": None} if params.prepare.fold else {})}
    if settings:
        click.echo("next: in params.yaml, set")
    for name, value in settings.items():
        click.echo(f"  {name}: {_as_yaml(value)}")
    click.echo(f"then: dvc add {params.data.path} (if DVC tracks it) and dvc repro")


def _as_yaml(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else f"{value or 'null'}"
