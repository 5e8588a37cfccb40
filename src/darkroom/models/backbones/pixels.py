"""What networks that were made for masks have in common."""

from collections.abc import Iterable

from torch import nn


class PixelBackbone(nn.Module):
    """A network that was made for masks: its features need no decoder of darkroom's.

    Its maps are as large as the image, or smaller by a whole factor; ``PixelHead`` enlarges the logits.
    """


class EncoderDecoder(PixelBackbone):
    """A network for masks whose part ``encoder`` has weights of its own, as those of a classifier."""

    encoder: nn.Module
    decoder: nn.Module

    def is_whole(self, names: Iterable[str]) -> bool:
        """Return whether weights of these names include a decoder, and not those of an encoder only."""
        return any(name.startswith("decoder.") for name in names)
