"""Trains a small network on the digits with and without a large one as its teacher.

    python benchmarks/distillation.py [--seeds 5] [--widths 4 8] [--dry]

For each seed: another split into 1,437 images to train on and 360 to test, a cnn of width 32 as the
teacher, and students of other widths, each trained with the labels alone and with the teacher, from the
same initial weights and in the same order. Plain SGD with a one-cycle schedule, 40 epochs. Scores are
the macro F1 of the last epoch on the test images.

Adds a line per width to benchmarks/results/distillation.jsonl.
"""

import argparse
import statistics
from collections.abc import Iterator

import torch
from building_blocks import split
from machine import hardware_of_training, keep
from training import TRAIN, make_plain_loss, section

from darkroom.catalogue.counting import blank_spec
from darkroom.compute.determinism import set_determinism
from darkroom.config.train import Teacher as TeacherOptions
from darkroom.loading.batches import TrainBatch
from darkroom.models.classifier import Classifier
from darkroom.models.factory import make_classifier
from darkroom.training.engine import fit
from darkroom.training.state import TrainingState
from darkroom.training.teacher import Teacher

BATCH_SIZE, EPOCHS, WIDTH_OF_TEACHER = 64, 40, 32
TEACHER: TeacherOptions = {"file": "-", "weight": 0.7, "temperature": 4.0}


def train(width: int, seed: int, teacher: Teacher | None = None) -> tuple[Classifier, float]:
    """Returns a trained cnn and its macro F1 on the test images."""
    (images, targets), test = split(seed)
    options = section(
        {**TRAIN, "lr": 0.05, "label_smoothing": 0.0, "epochs": EPOCHS, "teacher": teacher and TEACHER}
    )
    torch.manual_seed(seed)
    spec = blank_spec(name="cnn", width=width, depth=2, num_classes=10, input_size=(8, 8), channels=1)
    model = make_classifier(spec)
    num_steps = len(images) // BATCH_SIZE

    def batches(epoch: int, step: int) -> Iterator[TrainBatch]:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        chosen = order[: num_steps * BATCH_SIZE].view(num_steps, -1)[step:]
        plain = (TrainBatch(images[rows], targets[rows]) for rows in chosen)
        yield from plain if teacher is None else teacher.taught(plain)

    loss = make_plain_loss(options, torch.device("cpu"))
    state = TrainingState(model, options, num_steps)
    result = list(fit(state, batches, lambda _: [test], loss, options, seed))[-1]
    return model.eval(), result.val_f1_macro


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    args = parser.parse_args()
    set_determinism(0, 1)  # images are tiny: a second thread costs more than it saves
    scores: dict[tuple[int, str], list[float]] = {}
    teachers, sizes = [], {}
    for seed in range(args.seeds):
        large, score = train(WIDTH_OF_TEACHER, seed)
        teachers.append(score)
        for width in args.widths:
            for name, teacher in (("labels", None), ("teacher", Teacher(large, list(range(10))))):
                student, score = train(width, seed, teacher)
                scores.setdefault((width, name), []).append(score)
                sizes[width] = sum(p.numel() for p in student.parameters())
                print(f"seed {seed}, width {width}, {name}: {score:.4f}", flush=True)
    for width in args.widths:
        gains = [b - a for a, b in zip(scores[width, "labels"], scores[width, "teacher"], strict=True)]
        line = {
            "width": width,
            "parameters": sizes[width],
            "teacher_parameters": sum(p.numel() for p in large.parameters()),
            "seeds": args.seeds,
            "weight": TEACHER["weight"],
            "temperature": TEACHER["temperature"],
            "f1_macro_of_teacher": round(statistics.mean(teachers), 4),
            "f1_macro": round(statistics.mean(scores[width, "labels"]), 4),
            "f1_macro_with_teacher": round(statistics.mean(scores[width, "teacher"]), 4),
            "gains": [round(gain, 4) for gain in gains],
            **hardware_of_training("cpu"),
        }
        keep("distillation", line, args.dry)


if __name__ == "__main__":
    main()
