"""prepare: data.path -> data/prepared/{train,val,test}/, dataset.json, manifest; reports/prepare/"""

from darkroom.config.prepare import PrepareConfig
from darkroom.paths import (
    CACHE,
    DATASET,
    DUPLICATES,
    MANIFEST,
    PREPARE_METRICS,
    PREPARED,
    PROBLEMS,
    REPORT_OF_PREPARE,
    REPORT_PREPARE,
    TROUBLE,
)
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: PrepareConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.collection.collection import find_collection
    from darkroom.dataset.storage import choose_storage
    from darkroom.preparation.curation import curate, find_duplicates
    from darkroom.preparation.ingest import ingest
    from darkroom.preparation.outcomes import check_outcomes, select_candidates
    from darkroom.preparation.prepare import (
        count,
        count_by_label,
        decide,
        settle_layout,
        summarise,
        write_manifest,
        write_splits,
    )
    from darkroom.preparation.report import write_preparation_report
    from darkroom.preparation.series import series_remarks
    from darkroom.preparation.trouble import Troubles
    from darkroom.preparation.trouble_page import write_trouble_page
    from darkroom.progress import progress_bar, spinner
    from darkroom.reporting.tables import write_json

    options, workers = config.prepare, runtime.workers
    for page in (REPORT_OF_PREPARE, TROUBLE):  # of an earlier run, where DVC has not removed them
        page.unlink(missing_ok=True)
    with spinner("list files"):
        collection = find_collection(config.data, CACHE)
    with progress_bar("read headers", collection.num_to_read) as bar:
        layout = settle_layout(collection, options, workers, bar.advance)
    storage = choose_storage(options.storage, layout.shape, collection.num_to_read)
    with progress_bar("decode", collection.num_to_read) as bar:
        images = ingest(collection, layout, storage, options.tiff, CACHE, workers, bar.advance)
    troubles = Troubles()
    outcomes = check_outcomes(collection, images, options, PROBLEMS, troubles)

    candidates = select_candidates(collection, images, troubles)
    with progress_bar("compare", len(candidates)) as bar:
        duplicates = find_duplicates(candidates, options.near_duplicates, bar.advance)
    curation = curate(
        candidates, duplicates, options.duplicates, options.on_conflict, DUPLICATES, troubles
    )
    decision = decide(candidates, curation, duplicates, options, config.seed, troubles)
    if troubles:
        write_trouble_page(troubles, candidates, TROUBLE)
        troubles.refuse(f"{TROUBLE}")

    with progress_bar("write", len(candidates)) as bar:
        info = write_splits(candidates, decision, layout, storage, PREPARED, bar.advance)
    write_json(info.to_document(), DATASET)
    write_manifest(candidates, decision, MANIFEST, PROBLEMS)
    counts = count(info, outcomes, decision)
    write_json(counts | count_by_label(info), PREPARE_METRICS)
    with spinner("report"):
        remarks = write_preparation_report(
            MANIFEST,
            info,
            duplicates,
            candidates.pixels,
            REPORT_PREPARE,
            candidates.sets,
            list(series_remarks(candidates, decision)),
        )
    images.remove_other_segments()

    for remark in remarks:
        print(f"prepare: {remark}")
    print(summarise(info, counts))


if __name__ == "__main__":
    run_stage("prepare", PrepareConfig, main)
