"""evaluate: model, data/prepared/{train,val,test}/ -> reports/evaluate/{metrics.json, ...}"""

from darkroom.config.evaluate import EvaluateConfig
from darkroom.paths import (
    DATASET,
    EVALUATE_PLOTS,
    EVALUATE_REPORT,
    MANIFEST,
    METRICS,
    MODEL,
    PREDICTIONS,
    PREPARED,
    VALIDATION,
)
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: EvaluateConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.compute.determinism import set_determinism
    from darkroom.compute.device import select_device
    from darkroom.compute.inference import compute_logits, mirrored
    from darkroom.dataset.info import load_info
    from darkroom.dataset.prepared import open_split
    from darkroom.dataset.views import EvaluationView
    from darkroom.evaluation.attributes import attributes_of, load_manifest
    from darkroom.evaluation.baseline import fit_baseline
    from darkroom.evaluation.evaluate import all_remarks, evaluate
    from darkroom.evaluation.explorer import explore
    from darkroom.evaluation.features import make_extractor
    from darkroom.evaluation.hardest import hardest_images
    from darkroom.evaluation.heatmaps import add_heatmaps
    from darkroom.evaluation.intervals import with_intervals
    from darkroom.evaluation.plots import write_plots
    from darkroom.evaluation.report import write_report
    from darkroom.evaluation.slices import filters_of, with_slices
    from darkroom.evaluation.tables import write_predictions
    from darkroom.evaluation.targets.interface import evaluation_target
    from darkroom.evaluation.unfamiliarity import compute_outputs, most_unfamiliar, with_unfamiliarity
    from darkroom.features.store import open_store
    from darkroom.loading.batches import Batches
    from darkroom.metrics.classification import metrics_file
    from darkroom.metrics.gate import check_gate, judge
    from darkroom.metrics.groups import groups_of
    from darkroom.models.file import load_model
    from darkroom.progress import progress_bar
    from darkroom.reporting.scores import summary
    from darkroom.reporting.tables import write_json

    set_determinism(0, config.num_threads)
    device = select_device(runtime.device)
    model, spec = load_model(MODEL)
    target = evaluation_target(spec.target)

    info = load_info(DATASET)
    check_gate(config.evaluate.gate, info.class_names)
    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    train, val, test_split = (
        open_split(PREPARED / split, info, view) for split in ("train", "val", "test")
    )
    extractor = make_extractor(model.to(device), spec, open_store(runtime))
    baseline = fit_baseline(target, extractor, train, val, len(spec.class_names), device)

    batches = Batches(test_split, device, config.evaluate.batch_size, runtime.workers)
    with progress_bar("evaluate", len(test_split)) as bar, baseline.watching():
        logits, targets, unfamiliarity = compute_outputs(model, bar.count(batches))
    mirrored_logits = None
    if config.evaluate.tta == "flip":
        with progress_bar("evaluate: mirror images", len(test_split)) as bar:
            mirrored_logits = compute_logits(model, mirrored(bar.count(batches)))[0].cpu()

    baseline_scores = baseline.scores(targets.cpu())
    rules = target.learn_rules(spec, VALIDATION, config.evaluate)
    evaluation = evaluate(
        spec, targets.cpu(), logits.cpu(), test_split.paths, baseline_scores, mirrored_logits, rules
    )
    manifest = load_manifest(MANIFEST)
    groups = groups_of(manifest, test_split.paths)
    evaluation = with_intervals(evaluation, groups)
    evaluation = with_unfamiliarity(evaluation, spec, unfamiliarity, test_split.paths)
    attributes = attributes_of(manifest, test_split.paths)
    evaluation = with_slices(evaluation, attributes, groups)
    hardest = add_heatmaps(hardest_images(evaluation, test_split), model, evaluation)
    test = metrics_file(evaluation.metrics)
    test |= judge(config.evaluate.gate, test)

    write_json({"test": test}, METRICS)
    write_predictions(evaluation, test_split.paths, PREDICTIONS)
    write_plots(evaluation, hardest, spec.training.get("history"), EVALUATE_PLOTS)
    explorer = explore(evaluation, test_split, filters_of(evaluation, attributes))
    unfamiliar = most_unfamiliar(evaluation, test_split)
    remarks = all_remarks(test, spec.training)
    write_report(
        evaluation, hardest, explorer, spec, remarks, EVALUATE_PLOTS, EVALUATE_REPORT, unfamiliar
    )

    indicators = evaluation.indicators(evaluation.targets)
    run.log_pr_curves(spec.class_names, indicators, evaluation.probabilities)
    for remark in remarks:
        print(f"evaluate: {remark}")
    print(f"evaluate: {summary(test)}; see {EVALUATE_REPORT}")


if __name__ == "__main__":
    run_stage("evaluate", EvaluateConfig, main)
