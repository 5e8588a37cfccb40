"""The first layers of a model of rows: from raw numbers and codes to standardised inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.inputs import Encoding


class RowInput(nn.Module):
    """Fill missing numbers, standardise them, and represent each category as a vector.

    A code of 0 is a category that the train split lacks; its vector is zero and stays zero.

    Args:
        medians, means, stds: of each number, from the train split.
        num_values: the number of categories of each column of codes.
        one_hot: represent categories by indicators, so that a linear layer after this one is a logistic
            regression; otherwise by embeddings, which are trained.
    """

    def __init__(
        self,
        medians: Sequence[float],
        means: Sequence[float],
        stds: Sequence[float],
        num_values: Sequence[int],
        one_hot: bool,
    ) -> None:
        super().__init__()
        self.medians: Tensor
        self.means: Tensor
        self.stds: Tensor
        # float64: float32 cannot tell two moments of a day apart in seconds since 1970
        self.register_buffer("medians", torch.tensor(medians, dtype=torch.float64))
        self.register_buffer("means", torch.tensor(means, dtype=torch.float64))
        self.register_buffer("stds", torch.tensor(stds, dtype=torch.float64))
        self.num_values = tuple(num_values)
        lengths = [embedding_length(count) for count in self.num_values]
        self.embeddings = nn.ModuleList(
            nn.Embedding(count + 1, length, padding_idx=0)
            for count, length in zip(self.num_values, lengths, strict=True)
            if not one_hot
        )
        self.num_outputs = len(medians) + sum(self.num_values if one_hot else lengths)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the inputs of the next layer.

        Args:
            rows: float64 ``(n, num_numbers + num_categories)``, or with further dimensions of 1: raw
                numbers, NaN if missing, and codes.

        Returns:
            float32 ``(n, num_outputs)``.
        """
        numbers, codes = rows.flatten(1).split([len(self.medians), len(self.num_values)], dim=1)
        filled = torch.where(numbers.isnan(), self.medians, numbers)
        parts = [((filled - self.means) / self.stds).float()]
        for column, count in enumerate(self.num_values):
            code = codes[:, column].long()
            if self.embeddings:
                parts.append(self.embeddings[column](code))
            else:
                parts.append(F.one_hot(code, count + 1)[:, 1:].float())
        return torch.cat(parts, dim=1)


def row_input(encoding: Encoding, one_hot: bool) -> RowInput:
    """Return the first layer for rows of an encoding; see ``RowInput``."""
    numbers = encoding.numbers
    return RowInput(
        [number.median for number in numbers],
        [number.mean for number in numbers],
        [number.std for number in numbers],
        [len(category.values) for category in encoding.categories],
        one_hot,
    )


def embedding_length(num_values: int) -> int:
    """Return the length of the vectors of a column with this many categories.

    The rule of fast.ai's tabular models (Howard and Gugger, "fastai: A Layered API for Deep Learning",
    2020): ``1.6 * n ** 0.56``, at most 600.
    """
    return min(600, round(1.6 * num_values**0.56))
