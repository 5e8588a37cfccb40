"""How much an image differs from the training images: a distance between feature vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darkroom.models.square_root import square_root


class Unfamiliarity(nn.Module):
    """The distance of a feature vector from the nearest centre of the training images, in relation to a
    threshold.

    The vector is divided by its length and reduced to its principal components, in which the squared
    distance is Mahalanobis's with one covariance for all centres. What the reduction loses is added in
    units of its variance, as in probabilistic principal component analysis.

    Args:
        num_features: length of a feature vector.
        num_components: number of principal components, at most ``num_features``.
        num_centres: number of centres.
    """

    def __init__(self, num_features: int, num_components: int, num_centres: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.axes: Tensor
        self.whitening: Tensor
        self.centres: Tensor
        self.lost_variance: Tensor
        self.threshold: Tensor
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("axes", torch.zeros(num_features, num_components))
        self.register_buffer("whitening", torch.zeros(num_components, num_components))
        self.register_buffer("centres", torch.zeros(num_centres, num_components))
        self.register_buffer("lost_variance", torch.ones(()))
        self.register_buffer("threshold", torch.ones(()))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the unfamiliarity of feature vectors.

        Args:
            vectors: float32 ``(n, num_features)``, what the head's pooling returns.

        Returns:
            float32 ``(n,)``, 0 or more; above 1, the image is unlike the training images.
        """
        shifted = F.normalize(vectors, dim=1) - self.mean
        components = shifted @ self.axes
        offsets = (components @ self.whitening)[:, None] - self.centres
        squares = offsets.square().sum(dim=2).amin(dim=1)
        num_features, num_components = self.axes.shape
        if num_components < num_features:
            lost = shifted - components @ self.axes.T
            squares = squares + lost.square().sum(dim=1) / self.lost_variance
        return square_root(squares) / self.threshold
