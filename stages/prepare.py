"""prepare: data.path -> data/prepared/{train,val,test}/, dataset.json, manifest; reports/prepare/"""

from pathlib import Path

from darkroom.config import PrepareConfig
from darkroom.paths import DATASET, MANIFEST, PREPARED, REPORT_PREPARE
from darkroom.runtime import Runtime
from darkroom.stage import run_stage
from darkroom.tracking.run import Run


def main(config: PrepareConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.data.collection import scan_collection
    from darkroom.data.prepare import choose_layout, read_headers, write_manifest, write_splits
    from darkroom.data.shards import Shards
    from darkroom.data.splits import assign_splits
    from darkroom.progress import progress_bar
    from darkroom.reporting.figures import draw_class_histogram, draw_image_grid
    from darkroom.reporting.samples import samples_by_class
    from darkroom.reporting.tables import write_json

    options = config.prepare
    collection = scan_collection(Path(config.data.path))
    num_files = len(collection.files)
    splits = assign_splits(collection.files, options.val_fraction, options.test_fraction, config.seed)
    with progress_bar("read headers", num_files) as bar:
        headers = read_headers(collection, runtime.workers, bar.advance)
    layout = choose_layout(headers, options.image_size, options.channels, options.resize)
    with progress_bar("decode", num_files) as bar:
        info, manifest = write_splits(collection, splits, layout, PREPARED, runtime.workers, bar.advance)
    write_manifest(manifest, MANIFEST)
    write_json(info.model_dump(), DATASET)

    draw_class_histogram(info.counts, REPORT_PREPARE / "classes.png")
    samples = samples_by_class(Shards(PREPARED / "train"), info.class_names)
    draw_image_grid(list(samples.values()), list(samples), REPORT_PREPARE / "samples.png")

    counts = {split: info.num_images(split) for split in info.counts}
    run.made(PREPARED, info.digest)
    run.log_metrics({f"num_images/{split}": count for split, count in counts.items()})
    run.log_artifacts(DATASET, MANIFEST, REPORT_PREPARE)
    height, width = info.input_size
    print(
        f"prepare: {num_files:,} images of {len(info.class_names)} classes as {height} x {width} x "
        f"{info.channels}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items())
    )


if __name__ == "__main__":
    run_stage("prepare", PrepareConfig, main)
