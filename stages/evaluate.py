"""evaluate: model, data/prepared/{train,val,test}/ -> reports/evaluate/{metrics.json, ...}"""

from darkroom.config.evaluate import EvaluateConfig
from darkroom.paths import DATASET, EVALUATE_PLOTS, METRICS, MODEL, PREDICTIONS, PREPARED, REPORT
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: EvaluateConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.compute.determinism import set_determinism
    from darkroom.compute.device import select_device
    from darkroom.compute.inference import compute_logits
    from darkroom.dataset.info import load_info
    from darkroom.dataset.prepared import open_split
    from darkroom.evaluation.baseline import fit_baseline
    from darkroom.evaluation.evaluation import make_evaluation
    from darkroom.evaluation.features import features_of
    from darkroom.loading.batches import Batches
    from darkroom.metrics.classification import metrics_file
    from darkroom.models.file import load_model
    from darkroom.progress import progress_bar
    from darkroom.reporting.tables import write_json

    set_determinism(0, config.num_threads)
    device = select_device(runtime.device)
    model, spec = load_model(MODEL)

    info = load_info(DATASET)
    train, val, test_split = (open_split(PREPARED / split, info) for split in ("train", "val", "test"))
    features = features_of(model.to(device), spec.training)
    baseline = fit_baseline(features, train, val, len(spec.class_names), device)

    batches = Batches(test_split, device, config.evaluate.batch_size, runtime.workers)
    with progress_bar("evaluate", len(test_split)) as bar, baseline.watching():
        logits, targets = compute_logits(model, bar.count(batches))

    beside = baseline.scores(targets.cpu())
    evaluation = make_evaluation(spec, test_split, targets.cpu(), logits.cpu(), beside)
    test = metrics_file(evaluation.metrics)
    write_json({"test": test}, METRICS)
    evaluation.write_predictions(PREDICTIONS)
    evaluation.write_plots(EVALUATE_PLOTS)
    evaluation.write_report(EVALUATE_PLOTS, REPORT)

    run.log_pr_curves(spec.class_names, evaluation.targets, evaluation.probabilities)
    for remark in evaluation.remarks():
        print(f"evaluate: {remark}")
    print(f"evaluate: {evaluation.summary()}; see {REPORT}")


if __name__ == "__main__":
    run_stage("evaluate", EvaluateConfig, main)
