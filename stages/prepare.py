"""prepare: data.path -> data/prepared/{train,val,test}/, dataset.json, manifest; reports/prepare/"""

import shutil

from darkroom.config.prepare import PrepareConfig
from darkroom.paths import (
    CACHE,
    DATASET,
    DUPLICATES,
    MANIFEST,
    PREPARE_METRICS,
    PREPARED,
    PROBLEMS,
    REPORT_PREPARE,
    TROUBLE,
)
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: PrepareConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.collection.collection import find_collection
    from darkroom.collection.trouble import Troubles
    from darkroom.preparation.ingest import start_readers
    from darkroom.progress import progress_bar, spinner

    options, workers, troubles = config.prepare, runtime.workers, Troubles()
    shutil.rmtree(REPORT_PREPARE, ignore_errors=True)  # of an earlier run, if DVC has not removed it
    with spinner("list files"):
        collection = find_collection(config.data, CACHE, troubles)
    start_readers(collection, workers)

    # heavy imports, beside those of the worker processes
    from darkroom.preparation.candidates import check_candidates, select_candidates
    from darkroom.preparation.counts import count, summarise
    from darkroom.preparation.curation import curate, find_duplicates
    from darkroom.preparation.decision import decide
    from darkroom.preparation.inputs.interface import prepared_input
    from darkroom.preparation.prepared import PreparedData
    from darkroom.preparation.prepared_dataset import write_splits
    from darkroom.preparation.prepared_manifest import write_manifest
    from darkroom.preparation.targets.interface import prepared_target
    from darkroom.preparation.trouble_page import write_trouble_page
    from darkroom.reporting.tables import write_json

    kind = prepared_input(collection.input)
    images = kind.read(collection, config, CACHE, workers)
    candidates = select_candidates(collection, images)
    check_candidates(candidates, options, PROBLEMS, troubles)
    with progress_bar("compare", len(candidates)) as bar:
        duplicates = find_duplicates(candidates, kind.threshold(options), bar.advance)
    curation = curate(
        candidates,
        duplicates,
        options.duplicates,
        "keep" if kind.keeps_conflicts else options.on_conflict,
        DUPLICATES,
        troubles,
    )
    decision = decide(candidates, curation, duplicates, options, config.seed, troubles)
    if troubles:
        write_trouble_page(troubles, candidates, TROUBLE)
        troubles.refuse(f"{TROUBLE}")

    with progress_bar("write", len(candidates)) as bar:
        info = write_splits(candidates, decision, PREPARED, bar.advance)
    write_json(info.to_document(), DATASET)
    write_manifest(candidates, decision, MANIFEST, PROBLEMS)
    counts = count(info, candidates, decision)
    by_label = prepared_target(info.target).counts_by_label(info)
    write_json(counts | by_label, PREPARE_METRICS)
    with spinner("report"):
        prepared = PreparedData(candidates, decision, info)
        more = [*collection.remarks, *kind.remarks(prepared)]
        remarks = kind.write_report(prepared, MANIFEST, REPORT_PREPARE, more)
    images.remove_other_segments()

    for remark in remarks:
        print(f"prepare: {remark}")
    print(summarise(info, counts))


if __name__ == "__main__":
    run_stage("prepare", PrepareConfig, main)
