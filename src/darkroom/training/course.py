"""The results of epochs: which one is kept, and whether the training overfits.

The kept epoch follows Breiman's one-standard-error rule. On a small validation set, the scores of epochs
differ by chance, and the highest may be that of a model that has hardly learned. The rule keeps the
latest epoch whose macro F1 is within one standard error of the best, because later weights have learned
more (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3, where the rule picks
the simplest tree). The best epoch is the first one with the highest score.

One set of weights in memory is enough. When a new epoch is the best, the weights kept so far can be
dropped, because the new epoch is also the latest within its own error. Later epochs are compared with
it until a better one comes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MIN_EPOCHS = 3
"""Number of epochs after the best one before overfitting is reported: one alone may be chance."""

MIN_RISE = 0.1
"""Minimum rise of the validation loss, relative to its minimum."""

MIN_RISE_NATS = 0.02
"""A smaller rise does no harm, however small the minimum was."""

EARLY_ADVICE = (
    "later epochs did worse on the validation data than chance explains; a lower train.lr, more "
    "augment or weight_decay, or fewer train.epochs with the same schedule may do better, and more "
    "validation data make the choice surer"
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
    grad_norm_first_layer: float | None = None
    """Mean gradient norm of the first trained layer; None if the norms of layers are not measured."""
    grad_norm_last_layer: float | None = None


class Verdict(NamedTuple):
    """How an epoch compares with the epochs before it."""

    is_best: bool
    """Whether its score is higher than all earlier scores; an equal score does not count."""
    is_kept: bool
    """Whether it is the latest within one standard error of the best so far."""


def judge(f1_macro: float, best: EpochResult | None) -> Verdict:
    """Compare a new epoch's score with the best epoch before it; None for the first epoch.

    An epoch whose score is not a number is neither best nor kept, unless it is the first.
    """
    if best is None or (math.isnan(best.val_f1_macro) and not math.isnan(f1_macro)):
        return Verdict(is_best=True, is_kept=True)
    is_best = f1_macro > best.val_f1_macro
    is_within = f1_macro >= best.val_f1_macro - best.val_f1_standard_error
    return Verdict(is_best, is_kept=is_best or is_within or f1_macro == best.val_f1_macro)


class Course(NamedTuple):
    """The kept and the best epoch of a training."""

    kept: EpochResult
    best: EpochResult
    num_epochs: int
    """Number of epochs that were trained."""

    @property
    def below_best(self) -> float:
        """Difference between the best macro F1 and that of the kept epoch."""
        return self.best.val_f1_macro - self.kept.val_f1_macro

    @property
    def is_early(self) -> bool:
        """Whether the kept epoch is not in the last third."""
        return 3 * self.kept.epoch <= 2 * self.num_epochs

    @property
    def reason(self) -> str:
        """Why this epoch was kept, as the end of a sentence that names its score."""
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
        """Which epoch was kept, with its score and the reason."""
        f1 = f"{self.kept.val_f1_macro:.4f}"
        which = f"epoch {self.kept.epoch} of {self.num_epochs}"
        return f"kept {which}: validation macro F1 {f1}, {self.reason}"

    @property
    def remarks(self) -> list[str]:
        """Advice if the kept epoch is an early one."""
        if not self.is_early:
            return []
        which = f"epoch {self.kept.epoch} of {self.num_epochs}"
        return [f"the kept {which} is not among the last third: {EARLY_ADVICE}"]

    def to_dict(self) -> dict[str, Any]:
        """Return what a model file records."""
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
    """Return the kept and the best epoch of results whose flags ``judge`` has set.

    Args:
        results: of all epochs, in order; at least one.
    """
    kept = next(result for result in reversed(results) if result.is_kept)
    best = next(result for result in reversed(results) if result.is_best)
    return Course(kept, best, results[-1].epoch)


def course_metrics(kept: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the kept and the best epoch so far, by their names in MLflow.

    They are logged at every epoch. MLflow's table of runs shows the last value of a metric, which is
    then that of the kept model; the last value of ``val/f1_macro`` is that of the last epoch.

    Args:
        kept: columns of the kept epoch, as numbers or as in history.csv; some may be missing.
        best: columns of the best epoch.
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
    """Return the epoch, from 1, after which the training overfits, or None.

    This is the epoch with the lowest validation loss, if at least three epochs followed, the training
    loss fell further, and the mean validation loss of the last three is above the lowest by more than a
    tenth and by more than 0.02 nats.
    """
    if not results:
        return None
    best = min(results, key=lambda result: result.val_loss)
    since = [result for result in results if result.epoch > best.epoch]
    if len(since) < MIN_EPOCHS:
        return None
    last = since[-MIN_EPOCHS:]
    still_falling = last[-1].train_loss < best.train_loss
    recent = sum(result.val_loss for result in last) / len(last)
    has_risen = recent > best.val_loss + max(MIN_RISE * best.val_loss, MIN_RISE_NATS)
    return best.epoch if still_falling and has_risen else None
