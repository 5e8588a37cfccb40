"""The evaluation of each kind of target, from the prepared data to the report."""

from collections.abc import Callable

from darkroom.evaluation.inputs import Inputs, Outcome
from darkroom.evaluation.labels import evaluate_labels
from darkroom.evaluation.targets.mask import evaluate_masks
from darkroom.targets import Target

_EVALUATIONS: dict[Target, Callable[[Inputs], Outcome]] = {
    "one_class": evaluate_labels,
    "several_labels": evaluate_labels,
    "mask": evaluate_masks,
}


def evaluate_model(inputs: Inputs) -> Outcome:
    """Return the scores of a model on the test images, and write its report.

    Raises:
        UserError: an option does not fit the kind of target, a batch does not fit into memory, or an
            output of the model is not finite.
    """
    return _EVALUATIONS[inputs.spec.target](inputs)
