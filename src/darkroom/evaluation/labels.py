"""Evaluate a model that predicts a class or labels for each image, and write its report."""

from darkroom.compute.inference import compute_logits, mirrored
from darkroom.evaluation.attributes import attributes_of
from darkroom.evaluation.baseline import fit_baseline
from darkroom.evaluation.evaluate import all_remarks, evaluate
from darkroom.evaluation.explorer import explore
from darkroom.evaluation.features import make_extractor
from darkroom.evaluation.hardest import hardest_images
from darkroom.evaluation.heatmaps import add_heatmaps
from darkroom.evaluation.importance import Importance, column_importance, write_importance
from darkroom.evaluation.inputs import Inputs, Outcome
from darkroom.evaluation.intervals import with_intervals
from darkroom.evaluation.pictures import pictures_of
from darkroom.evaluation.plots import write_plots
from darkroom.evaluation.report import write_report
from darkroom.evaluation.slices import filters_of, with_slices
from darkroom.evaluation.tables import write_predictions
from darkroom.evaluation.targets.interface import evaluation_target
from darkroom.evaluation.unfamiliarity import compute_outputs, most_unfamiliar, with_unfamiliarity
from darkroom.inputs import INPUT_WORDS
from darkroom.loading.batches import Batches
from darkroom.metrics.classification import metrics_file
from darkroom.metrics.gate import judge
from darkroom.metrics.groups import groups_of
from darkroom.paths import EVALUATE_PLOTS, EVALUATE_REPORT, PREDICTIONS, VALIDATION
from darkroom.progress import progress_bar


def evaluate_labels(inputs: Inputs) -> Outcome:
    """Return the scores on the test images; write predictions.parquet, plots/ and report.html."""
    options, model, spec, test_split = inputs.options, inputs.model, inputs.spec, inputs.test
    target = evaluation_target(spec.target)
    extractor = make_extractor(model, spec, inputs.store)
    baseline = fit_baseline(
        target, extractor, inputs.train, inputs.val, len(spec.class_names), inputs.device
    )

    batches = Batches(test_split, inputs.device, options.batch_size, inputs.workers)
    with (
        progress_bar("evaluate", len(test_split), INPUT_WORDS[spec.input].several) as bar,
        baseline.watching(),
    ):
        logits, targets, unfamiliarity = compute_outputs(model, bar.count(batches))
    mirrored_logits = None
    if options.tta == "flip":
        with progress_bar("evaluate: mirror images", len(test_split)) as bar:
            mirrored_logits = compute_logits(model, mirrored(bar.count(batches)))[0].cpu()

    baseline_scores = baseline.scores(targets.cpu())
    rules = target.learn_rules(spec, VALIDATION, options)
    evaluation = evaluate(
        spec, targets.cpu(), logits.cpu(), test_split.paths, baseline_scores, mirrored_logits, rules
    )
    groups = groups_of(inputs.manifest, test_split.paths)
    evaluation = with_intervals(evaluation, groups)
    evaluation = with_unfamiliarity(evaluation, spec, unfamiliarity, test_split.paths)
    attributes = attributes_of(inputs.manifest, test_split.paths)
    evaluation = with_slices(evaluation, attributes, groups)
    pictures = pictures_of(test_split, spec.encoding)
    hardest = hardest_images(evaluation, pictures)
    importance: list[Importance] = []
    if spec.encoding is None:
        hardest = add_heatmaps(hardest, model, evaluation)
    else:
        num_columns = len(spec.encoding.columns)
        with progress_bar("evaluate: permute columns", num_columns, "columns") as bar:
            importance = column_importance(evaluation, model, spec, test_split, groups, bar.advance)
        write_importance(importance, EVALUATE_PLOTS)
    test = metrics_file(evaluation.metrics)
    test |= judge(options.gate, test)

    write_predictions(evaluation, test_split.paths, PREDICTIONS)
    write_plots(evaluation, hardest, spec.training.get("history"), EVALUATE_PLOTS)
    explorer = explore(evaluation, pictures, filters_of(evaluation, attributes))
    unfamiliar = most_unfamiliar(evaluation, pictures)
    remarks = all_remarks(test, spec.training)
    write_report(
        evaluation,
        hardest,
        explorer,
        spec,
        remarks,
        EVALUATE_PLOTS,
        EVALUATE_REPORT,
        unfamiliar,
        importance,
    )
    indicators = evaluation.indicators(evaluation.targets)
    return Outcome(test, remarks, (indicators, evaluation.probabilities))
