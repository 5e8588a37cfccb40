"""evaluate: model, data/prepared/{train,val,test}/ -> reports/evaluate/{metrics.json, ...}"""

from darkroom.config.evaluate import EvaluateConfig
from darkroom.paths import DATASET, EVALUATE_REPORT, MANIFEST, METRICS, MODEL, PREPARED
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: EvaluateConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.compute.determinism import set_determinism
    from darkroom.compute.device import select_device
    from darkroom.dataset.info import load_info
    from darkroom.dataset.prepared import open_split
    from darkroom.dataset.views import EvaluationView
    from darkroom.evaluation.attributes import load_manifest
    from darkroom.evaluation.inputs import Inputs
    from darkroom.evaluation.targets.evaluations import evaluate_model
    from darkroom.features.store import open_store
    from darkroom.metrics.gate import check_gate
    from darkroom.models.file import load_model
    from darkroom.reporting.scores import summary
    from darkroom.reporting.tables import write_json

    set_determinism(0, config.num_threads)
    device = select_device(runtime.device)
    model, spec = load_model(MODEL)
    info = load_info(DATASET)
    check_gate(config.evaluate.gate, info.class_names)
    view = EvaluationView.of(spec.input_size, spec.evaluate_crop)
    train, val, test = (open_split(PREPARED / split, info, view) for split in ("train", "val", "test"))

    outcome = evaluate_model(
        Inputs(
            options=config.evaluate,
            model=model.to(device),
            spec=spec,
            info=info,
            train=train,
            val=val,
            test=test,
            manifest=load_manifest(MANIFEST),
            device=device,
            workers=runtime.workers,
            store=open_store(runtime),
        )
    )
    write_json({"test": outcome.test}, METRICS)

    if outcome.curves is not None:
        run.log_pr_curves(spec.class_names, *outcome.curves)
    for remark in outcome.remarks:
        print(f"evaluate: {remark}")
    print(f"evaluate: {summary(outcome.test)}; see {EVALUATE_REPORT}")


if __name__ == "__main__":
    run_stage("evaluate", EvaluateConfig, main)
