"""export: model, data/prepared/test/, metrics.json -> export/{model.*, golden, README.md, ...}"""

from darkroom.config.export import ExportConfig
from darkroom.errors import counted
from darkroom.paths import DATASET, EXPORT, LATENCY, MANIFEST, METRICS, MODEL, PREPARED
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: ExportConfig, runtime: Runtime, run: Run) -> None:
    import pyarrow.parquet as pq

    from darkroom.bounded_json import load_json
    from darkroom.compute.determinism import set_determinism
    from darkroom.dataset.info import load_info
    from darkroom.dataset.prepared import open_split
    from darkroom.dataset.targets.interface import stored_target
    from darkroom.dataset.views import EvaluationView
    from darkroom.export.certificate import provenance
    from darkroom.export.checks import write_and_check
    from darkroom.export.formats import FORMATS, package_of, parts
    from darkroom.export.golden import one_per_class
    from darkroom.export.inputs.interface import exported_input
    from darkroom.export.model_card import write_model_card
    from darkroom.export.onnx_int8 import calibration_images
    from darkroom.export.openvino import check_openvino
    from darkroom.export.rules import answer_rules
    from darkroom.export.sbom import SBOM, bill_of_materials
    from darkroom.export.source import Source
    from darkroom.export.statement import write_certificate
    from darkroom.inputs import INPUT_WORDS
    from darkroom.metrics.groups import COLUMNS, groups_of
    from darkroom.models.exported import DESCRIPTION, describe_export
    from darkroom.models.file import load_model
    from darkroom.params import flatten
    from darkroom.reporting.tables import write_json

    options = config.export
    set_determinism(0, config.num_threads)
    info = load_info(DATASET)
    if "openvino" in options.formats:
        check_openvino()
    model, spec = load_model(MODEL)

    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    test = open_split(PREPARED / "test", info, view)
    groups = groups_of(pq.read_table(MANIFEST, columns=list(COLUMNS)), test.paths)
    calibrates = "onnx-int8" in options.formats
    calibration = calibration_images(open_split(PREPARED / "train", info, view)) if calibrates else None

    source = Source(model, spec, calibration)
    written = write_and_check(source, options, config.num_threads, test, groups, EXPORT)
    checked = {file.name: entry for file, entry in written.entries.items()}

    shown = stored_target(test.target).indicators(test.labels, len(info.class_names))
    examples = test.viewed(None).gather(one_per_class(shown, options.golden_images))
    kind = exported_input(spec.input)
    golden = kind.write_golden(model, spec, examples, options.parity_tolerance, EXPORT)

    metrics = load_json(METRICS)["test"]
    parity_file, card, sbom = EXPORT / "parity.json", EXPORT / "README.md", EXPORT / SBOM
    write_json(checked, parity_file)
    descriptions = [(FORMATS[name].file_name, FORMATS[name].description) for name in options.formats]
    write_model_card(spec, info, metrics, descriptions, checked, card)
    readers = {part: package_of(file) for file in written.entries for part in parts(file)}
    write_json(bill_of_materials(spec.name, readers, kind.packages), sbom)
    description = describe_export(
        {**spec.preprocessing(), **answer_rules(metrics)},
        EXPORT,
        [*readers, *golden, parity_file, card, sbom],
    )
    write_json(description, EXPORT / DESCRIPTION)
    write_certificate(EXPORT, provenance(spec, flatten(config), metrics))

    write_json(written.latencies, LATENCY)
    run.log_metrics(
        {
            f"{measure}/{name}": value
            for name, row in written.latencies.items()
            for measure, value in row.items()
        }
    )
    words = INPUT_WORDS[spec.input]
    names = ", ".join(file.name for file in written.entries)
    print(
        f"export: {names} in {EXPORT}/; reloaded, they differ from the checkpoint by at most "
        f"{written.max_abs_difference:.1e} on"
        f" {counted(len(test), f'test {words.one}')}"
    )
    for change in written.changes:
        print(f"export: {change}")


if __name__ == "__main__":
    run_stage("export", ExportConfig, main)
