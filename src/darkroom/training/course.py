"""Which epoch's weights are kept: Breiman's one-standard-error rule.

On a small validation set the scores of epochs differ by chance: the highest may be that of a model that
has hardly learnt. The rule keeps the latest epoch whose macro F1 is within one standard error of the
best, because the later weights have learnt more (Breiman et al., "Classification and Regression Trees",
1984, section 3.4.3, where it picks the simplest tree).

The best epoch is the first of those with the highest score. Only one set of weights must be held: an
epoch before the best cannot be the latest within its error, since the best itself is; so what was kept
before a new best is out, whatever the standard errors are, and each later epoch is compared with the
best as it will be until a better one comes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

LEAST_EPOCHS = 3
"""So many after the best one must have come: one alone may be chance."""

LEAST_RISE = 0.1
"""Relative to the least validation loss."""

LEAST_RISE_NATS = 0.02
"""Less is no harm, however small the least validation loss was."""

EARLY_ADVICE = (
    "later epochs did worse on the validation images than chance explains; a lower train.lr, more "
    "augment or weight_decay, or fewer train.epochs with the same schedule may do better, and more "
    "validation images make the choice surer"
)


@dataclass(frozen=True)
class EpochResult:
    """The outcome of an epoch. Losses are means over images, in nats."""

    epoch: int
    """Counted from 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float
    """Loss of the augmented images during training, with label smoothing, weights and mixing."""
    grad_norm: float | None
    """Mean gradient norm before clipping; None if gradients are not clipped by norm."""
    val_loss: float
    """Without label smoothing or weights."""
    val_accuracy: float
    """Share of the images that are classified correctly; with several labels, all must be correct."""
    val_f1_macro: float
    val_f1_standard_error: float
    """Standard error of val_f1_macro, by the bootstrap over images."""
    is_best: bool
    """Whether val_f1_macro is higher than in all earlier epochs."""
    is_kept: bool
    """Whether the weights were kept: the latest within one standard error of the best so far."""


class Verdict(NamedTuple):
    """What an epoch is beside those before it."""

    is_best: bool
    """Whether its score is higher than all before; an equal one is not."""
    is_kept: bool
    """Whether it is the latest within one standard error of the best so far."""


def judge(f1_macro: float, best: EpochResult | None) -> Verdict:
    """Compares a new epoch's score with the best epoch before it, which the first one has not.

    A score that is not a number is neither better nor kept, unless it is the first.
    """
    if best is None or (math.isnan(best.val_f1_macro) and not math.isnan(f1_macro)):
        return Verdict(is_best=True, is_kept=True)
    is_best = f1_macro > best.val_f1_macro
    is_near = f1_macro >= best.val_f1_macro - best.val_f1_standard_error
    return Verdict(is_best, is_kept=is_best or is_near or f1_macro == best.val_f1_macro)


class Course(NamedTuple):
    """The epochs that matter of a training."""

    kept: EpochResult
    best: EpochResult
    num_epochs: int
    """Epochs that were trained."""

    @property
    def below_best(self) -> float:
        """By how much the kept epoch's macro F1 is lower than the best."""
        return self.best.val_f1_macro - self.kept.val_f1_macro

    @property
    def is_early(self) -> bool:
        """Whether the kept epoch is not among the last third."""
        return 3 * self.kept.epoch <= 2 * self.num_epochs

    @property
    def reason(self) -> str:
        """Says why this epoch was kept, as the end of a sentence that names its score."""
        within = f"within one standard error ({self.best.val_f1_standard_error:.3f})"
        if self.kept.epoch == self.best.epoch == self.num_epochs:
            return "the best"
        if self.kept.epoch == self.best.epoch:
            is_sure = self.best.val_f1_standard_error == 0  # a perfect score, as a rule
            return f"the best; no later epoch {'equals it' if is_sure else f'is {within}'}"
        if self.below_best == 0:
            return f"equal to the best, which epoch {self.best.epoch} reached first"
        return f"{within} of the best, epoch {self.best.epoch}'s {self.best.val_f1_macro:.4f}"

    @property
    def sentence(self) -> str:
        """Says which epoch was kept, of how many, with which score, and why."""
        f1 = f"{self.kept.val_f1_macro:.4f}"
        which = f"epoch {self.kept.epoch} of {self.num_epochs}"
        return f"kept {which}: validation macro F1 {f1}, {self.reason}"

    @property
    def remarks(self) -> list[str]:
        """Says if the kept epoch is an early one, and what to try."""
        if not self.is_early:
            return []
        which = f"epoch {self.kept.epoch} of {self.num_epochs}"
        return [f"the kept {which} is not among the last third: {EARLY_ADVICE}"]

    def to_dict(self) -> dict[str, Any]:
        """Returns what a model file records of it."""
        return {
            "kept": {
                "epoch": self.kept.epoch,
                "val_loss": self.kept.val_loss,
                "val_accuracy": self.kept.val_accuracy,
                "val_f1_macro": self.kept.val_f1_macro,
                "below_best": self.below_best,
                "reason": self.sentence,
                "remarks": self.remarks,
            },
            "best": {
                "epoch": self.best.epoch,
                "val_f1_macro": self.best.val_f1_macro,
                "val_f1_standard_error": self.best.val_f1_standard_error,
            },
            "num_epochs": self.num_epochs,
        }


def course_of(results: Sequence[EpochResult]) -> Course:
    """Returns the epochs that matter, of results whose flags were set as ``judge`` says.

    Args:
        results: at least one, in order.
    """
    kept = next(result for result in reversed(results) if result.is_kept)
    best = next(result for result in reversed(results) if result.is_best)
    return Course(kept, best, results[-1].epoch)


def course_metrics(kept: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, float]:
    """Returns what is kept and best so far, under the names that they have in MLflow.

    Logged at every epoch: MLflow's table of runs shows the last point of a metric, which is then that of
    the model itself, while the last point of ``val/f1_macro`` is the last epoch's.

    Args:
        kept: columns of the kept epoch, as numbers or as in history.csv; some may be missing.
        best: of the best epoch.
    """
    named = {
        "val/kept_epoch": kept.get("epoch"),
        "val/kept_f1_macro": kept.get("val_f1_macro"),
        "val/kept_accuracy": kept.get("val_accuracy"),
        "val/kept_loss": kept.get("val_loss"),
        "val/best_f1_macro": best.get("val_f1_macro"),
    }
    return {name: float(value) for name, value in named.items() if value is not None}


def overfits_since(results: Sequence[EpochResult]) -> int | None:
    """Returns the epoch, from 1, after which only the training images were learnt better, or None.

    That is the epoch of the least validation loss, if at least three have come since, the training loss
    has gone on falling, and the mean validation loss of the last three is more than a tenth and more
    than 0.02 nats above the least one.
    """
    if not results:
        return None
    best = min(results, key=lambda result: result.val_loss)
    since = [result for result in results if result.epoch > best.epoch]
    if len(since) < LEAST_EPOCHS:
        return None
    last = since[-LEAST_EPOCHS:]
    still_falling = last[-1].train_loss < best.train_loss
    recent = sum(result.val_loss for result in last) / len(last)
    has_risen = recent > best.val_loss + max(LEAST_RISE * best.val_loss, LEAST_RISE_NATS)
    return best.epoch if still_falling and has_risen else None
