"""export: model, data/prepared/test/, metrics.json -> export/{model.*, README.md, parity.json}"""

from darkroom.config.export import ExportConfig
from darkroom.errors import counted
from darkroom.paths import DATASET, EXPORT, METRICS, MODEL, PREPARED
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: ExportConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.compute.determinism import set_determinism
    from darkroom.dataset.info import load_info
    from darkroom.dataset.prepared import open_split
    from darkroom.dataset.views import EvaluationView
    from darkroom.export.formats import FORMATS, write_formats
    from darkroom.export.model_card import write_model_card
    from darkroom.export.parity import check_parity
    from darkroom.export.rules import answer_rules
    from darkroom.models.exported import DESCRIPTION, describe_export
    from darkroom.models.file import load_model
    from darkroom.progress import spinner
    from darkroom.reporting.tables import read_json, write_json

    options = config.export
    set_determinism(0, config.num_threads)
    info = load_info(DATASET)
    model, spec = load_model(MODEL)

    with spinner(f"export: writing {', '.join(['safetensors', *options.formats])}"):
        files = write_formats(options.formats, MODEL, model, spec, EXPORT)
    test_split = open_split(
        PREPARED / "test", info, EvaluationView.of(spec.input_size, spec.evaluate_crop)
    )
    images, paths = test_split.evenly_spaced(options.parity_images)
    with spinner(
        f"export: reloading each file and comparing it on {counted(len(images), 'test image')}"
    ):
        parities = check_parity(
            model, spec, files, images, config.num_threads, options.parity_tolerance, paths
        )

    metrics = read_json(METRICS)["test"]
    parity_file, card = EXPORT / "parity.json", EXPORT / "README.md"
    write_json({name: parity.to_dict() for name, parity in parities.items()}, parity_file)
    write_model_card(
        spec,
        info,
        metrics,
        [(FORMATS[name].file_name, FORMATS[name].description) for name in options.formats],
        card,
    )
    description = describe_export(
        {**spec.preprocessing(), **answer_rules(metrics)}, [*files, parity_file, card]
    )
    write_json(description, EXPORT / DESCRIPTION)

    worst = max(parity.max_abs_difference for parity in parities.values())
    print(
        f"export: {', '.join(file.name for file in files)} in {EXPORT}/; reloaded, they differ from the "
        f"checkpoint by at most {worst:.1e} on {counted(len(images), 'test image')}"
    )


if __name__ == "__main__":
    run_stage("export", ExportConfig, main)
