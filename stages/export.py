"""export: model, data/prepared/test/, metrics.json -> export/{model.*, golden, README.md, ...}"""

from darkroom.config.export import ExportConfig
from darkroom.errors import counted
from darkroom.paths import DATASET, EXPORT, LATENCY, MANIFEST, METRICS, MODEL, PREPARED
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: ExportConfig, runtime: Runtime, run: Run) -> None:
    import pyarrow.parquet as pq

    from darkroom.compute.determinism import set_determinism
    from darkroom.dataset.info import load_info
    from darkroom.dataset.prepared import open_split
    from darkroom.dataset.targets.interface import stored_target
    from darkroom.dataset.views import EvaluationView
    from darkroom.export.formats import FORMATS, write_formats
    from darkroom.export.golden import one_per_class, write_golden
    from darkroom.export.model_card import write_model_card
    from darkroom.export.parity import check_parity
    from darkroom.export.rules import answer_rules
    from darkroom.export.scores import scores_of_files
    from darkroom.export.targets.interface import images_with_truth
    from darkroom.metrics.groups import COLUMNS, groups_of
    from darkroom.models.exported import DESCRIPTION, describe_export
    from darkroom.models.file import load_model
    from darkroom.progress import progress_bar, spinner
    from darkroom.reporting.tables import read_json, write_json

    options = config.export
    set_determinism(0, config.num_threads)
    info = load_info(DATASET)
    model, spec = load_model(MODEL)

    with spinner(f"export: writing {', '.join(['safetensors', *options.formats])}"):
        files = write_formats(options.formats, MODEL, model, spec, EXPORT)
    test = open_split(PREPARED / "test", info, EvaluationView.of(spec.input_size, spec.evaluate_crop))
    with progress_bar("export: classifying the test images with each file", len(test)) as bar:
        batches = bar.count(images_with_truth(test, spec))
        parities = check_parity(
            model, spec, files, batches, config.num_threads, options.parity_tolerance, test.paths
        )
    groups = groups_of(pq.read_table(MANIFEST, columns=list(COLUMNS)), test.paths)
    scores = scores_of_files(parities, groups)
    checked = {
        file.name: {"bytes": file.stat().st_size, **parities[file.name].to_dict(), **scores[file.name]}
        for file in files
    }

    shown = stored_target(test.target).indicators(test.labels, len(info.class_names))
    examples = test.viewed(None).gather(one_per_class(shown, options.golden_images))
    golden = write_golden(model, spec, examples, options.parity_tolerance, EXPORT)

    metrics = read_json(METRICS)["test"]
    parity_file, card = EXPORT / "parity.json", EXPORT / "README.md"
    write_json(checked, parity_file)
    descriptions = [(FORMATS[name].file_name, FORMATS[name].description) for name in options.formats]
    write_model_card(spec, info, metrics, descriptions, checked, card)
    description = describe_export(
        {**spec.preprocessing(), **answer_rules(metrics)}, EXPORT, [*files, *golden, parity_file, card]
    )
    write_json(description, EXPORT / DESCRIPTION)

    latencies = {name: dict(parity.latency) for name, parity in parities.items()}
    write_json(latencies, LATENCY)
    run.log_metrics(
        {f"{measure}/{name}": value for name, row in latencies.items() for measure, value in row.items()}
    )
    worst = max(parity.max_abs_difference for parity in parities.values())
    print(
        f"export: {', '.join(file.name for file in files)} in {EXPORT}/; reloaded, they differ from the "
        f"checkpoint by at most {worst:.1e} on {counted(len(test), 'test image')}"
    )


if __name__ == "__main__":
    run_stage("export", ExportConfig, main)
