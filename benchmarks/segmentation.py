"""Compares darkroom's U-Net with segmentation_models_pytorch's on CamVid, trained for the same time.

    python benchmarks/segmentation.py camvid.tar [--minutes 20] [--only darkroom] [--lr 0.003] ...

The archive holds ``camvid/images/{train,val,test}/*.jpg``, ``camvid/masks/{train,val,test}/*.png`` and
``camvid/classes.csv``. Images of 240 x 180 are padded to 240 x 192 with void: U-Nets halve sizes.
Both networks learn the 367 training images, and the weights after the last epoch are tested once on the
233 test images; nothing is chosen by the validation images, whose scores are printed, too.

- ``darkroom``: ``UNet`` of ``--width`` and ``--depth`` with darkroom's augmentation and losses, on
  images of 160 x 128 for the first 60 % of the epochs;
- ``smp``, where segmentation_models_pytorch is installed: its ``Unet`` over a ResNet-18 without
  pretrained weights, of about the same size, in a plain loop with a DataLoader, torchvision's transforms
  for the same augmentation, its own Dice loss and torch's cross entropy.

The budget is CPU time of the training loop in minutes of all cores, so that other work on the machine
does not matter: each network gets as many epochs as fit, by the time of its first steps, with AdamW and
one cycle of the learning rate. Scores come from ``metrics/pixels.py``, and are checked against
scikit-learn's. Prints a JSON line per network and adds it to benchmarks/results/segmentation.jsonl.
"""

import argparse
import copy
import io
import tarfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from machine import hardware_of_training, keep, num_cores

from darkroom.compute.determinism import set_determinism

SIZE = (192, 240)
SMALL = (128, 160)
BATCH_SIZE = 8
SEED = 0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Data(NamedTuple):
    """A split: images uint8 ``(n, height, width, 3)`` and masks uint8 ``(n, height, width)``."""

    images: Any
    masks: Any


def read_camvid(archive: Path) -> tuple[dict[str, Data], list[str]]:
    """Decodes all splits, as prepare will, and returns them with the names of the classes."""
    import numpy as np
    import torch
    from PIL import Image

    from darkroom.collection.mask_classes import read_mask_classes
    from darkroom.decoding.decode import PixelLayout, decode
    from darkroom.decoding.masks import decode_mask

    with tarfile.open(archive) as tar:
        content = {
            member.name: tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
            if member.isfile()
        }
    classes = read_mask_classes("classes.csv", content["camvid/classes.csv"])
    layout = PixelLayout(*SIZE, 3, "pad")
    splits = {}
    for split in ("train", "val", "test"):
        names = sorted(
            name.removesuffix(".jpg").replace("/images/", "/{}/")
            for name in content
            if name.startswith(f"camvid/images/{split}/") and name.endswith(".jpg")
        )
        images, masks = [], []
        for name in names:
            encoded = content[f"{name.format('images')}.jpg"]
            images.append(decode(encoded, layout)[1])
            size = Image.open(io.BytesIO(encoded)).size
            masks.append(decode_mask(content[f"{name.format('masks')}.png"], classes, size, layout))
        splits[split] = Data(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)))
    return splits, list(classes.names)


class Learner(NamedTuple):
    """A network and how it is trained."""

    model: Any
    sizes: list[tuple[float, tuple[int, int]]]
    """The share of the epochs with each size of images."""
    losses: Callable[[int, int], Iterable[Any]]
    """Takes an epoch and the number of epochs; yields the loss of each batch."""


def darkroom_learner(options: argparse.Namespace, data: Data, num_classes: int) -> Learner:
    """Returns darkroom's U-Net, trained with its augmentation and losses."""
    import torch.nn.functional as F

    from darkroom.augment.pipeline import Augmentation
    from darkroom.config.augment import Augment
    from darkroom.loading.sampling import natural_order
    from darkroom.models.backbones.unet import UNet
    from darkroom.models.classifier import Classifier
    from darkroom.models.heads import PixelHead
    from darkroom.models.initialisation import initialise
    from darkroom.models.network import Network
    from darkroom.training.mask_losses import dice, mean_over_pixels, summed

    unet = UNet(3, options.width, options.depth)
    initialise(unet, options.init, "relu")
    network: Any = Network(unet, PixelHead(options.width, num_classes, 0.0))
    model = Classifier(network, MEAN, STD)
    settings = Augment.model_validate(
        dict.fromkeys(Augment.model_fields, 0)
        | dict.fromkeys(("vertical_flip",), False)
        | dict.fromkeys(("policy", "mixup", "cutmix"))
        | dict.fromkeys(("brightness", "contrast", "saturation"), options.colour)
        | {"transforms": [], "horizontal_flip": True, "resized_crop": options.crop}
    )
    loss_of = summed([mean_over_pixels(partial(F.cross_entropy, reduction="none")), dice])

    def losses(epoch: int, num_epochs: int) -> Iterable[Any]:
        first_large = round(num_epochs * options.small) + 1
        sizes = ((1, SMALL), (first_large, SIZE)) if first_large > 1 else ((1, SIZE),)
        augmentation = Augmentation(settings, SEED, sizes)
        order = natural_order(SEED, epoch, len(data.images))
        for ids in order.indices.split(BATCH_SIZE):
            images = augmentation.on_device(data.images[ids], ids, epoch)
            masks = augmentation.on_masks(data.masks[ids], ids, epoch)
            yield loss_of(model(images.permute(0, 3, 1, 2)), masks.long()).mean()

    return Learner(model, [(options.small, SMALL), (1 - options.small, SIZE)], losses)


def smp_learner(options: argparse.Namespace, data: Data, num_classes: int) -> Learner:
    """Returns segmentation_models_pytorch's U-Net, trained as in a notebook."""
    import segmentation_models_pytorch as smp
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from darkroom.void import VOID

    unet = smp.Unet(
        "resnet18",
        encoder_depth=4,
        encoder_weights=None,
        decoder_channels=(128, 64, 32, 16),
        classes=num_classes,
    )
    unet.encoder.layer4 = torch.nn.Identity()  # an encoder of depth 4 does not run it
    model = torch.nn.Sequential(v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), unet)
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomResizedCrop(SIZE, scale=(options.crop, 1.0), antialias=True),
            v2.ColorJitter(options.colour, options.colour, options.colour),
        ]
    )
    dice = smp.losses.DiceLoss("multiclass", ignore_index=VOID)

    class Frames(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data.images)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image = tv_tensors.Image(data.images[index].permute(2, 0, 1))
            return transform(image, tv_tensors.Mask(data.masks[index]))

    loader = torch.utils.data.DataLoader(Frames(), BATCH_SIZE, shuffle=True)

    def losses(epoch: int, num_epochs: int) -> Iterable[Any]:
        for images, masks in loader:
            logits, targets = model(images), masks.long()
            entropy = torch.nn.functional.cross_entropy(logits, targets, ignore_index=VOID)
            yield entropy + dice(logits, targets)

    return Learner(model, [(1.0, SIZE)], losses)


def seconds_of_step(model: Any, size: tuple[int, int]) -> float:
    """Returns the least CPU seconds of a few steps, forward and backward."""
    import torch

    trial = copy.deepcopy(model)
    images = torch.zeros(BATCH_SIZE, 3, *size, dtype=torch.uint8)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        trial(images).square().mean().backward()
        seconds.append(time.process_time() - start)
    return min(seconds)


def train(learner: Learner, options: argparse.Namespace, num_images: int) -> dict[str, Any]:
    """Trains for the budget, and returns the epochs and the time they took."""
    import torch

    num_steps = -(-num_images // BATCH_SIZE)
    shares = [(share, size) for share, size in learner.sizes if share]
    of_epoch = num_steps * sum(share * seconds_of_step(learner.model, size) for share, size in shares)
    budget = options.minutes * 60 * num_cores()
    num_epochs = max(1, int(budget / (of_epoch * 1.05)))
    optimizer = torch.optim.AdamW(learner.model.parameters(), options.lr, weight_decay=options.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=num_epochs * num_steps + 1, pct_start=0.2
    )
    learner.model.train()
    start, start_cpu = time.perf_counter(), time.process_time()
    for epoch in range(num_epochs):
        total = 0.0
        for loss in learner.losses(epoch, num_epochs):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.process_time() - start_cpu
        print(f"epoch {epoch + 1}/{num_epochs}: {total / num_steps:.4f}, {seconds:.0f} s", flush=True)
    return {
        "epochs": num_epochs,
        "training_cpu_minutes": round((time.process_time() - start_cpu) / 60, 2),
        "training_minutes": round((time.perf_counter() - start) / 60, 2),
    }


def scores(model: Any, data: Data, class_names: list[str]) -> dict[str, Any]:
    """Returns the scores on a split, after comparing two of them with scikit-learn's."""
    import torch
    from sklearn.metrics import f1_score, jaccard_score

    from darkroom.metrics.pixel_scores import pixel_metrics
    from darkroom.metrics.pixels import PixelCounter
    from darkroom.void import VOID

    model.eval()
    counter, preds = PixelCounter(len(class_names)), []
    with torch.inference_mode():
        for images, masks in zip(
            data.images.split(BATCH_SIZE), data.masks.split(BATCH_SIZE), strict=True
        ):
            preds.append(model(images.permute(0, 3, 1, 2)).argmax(dim=1))
            counter.add(masks, preds[-1])
    metrics = pixel_metrics(counter.result(), class_names)
    is_valid = data.masks != VOID
    flat = data.masks[is_valid].numpy(), torch.cat(preds)[is_valid].numpy()
    labels = sorted(set(flat[0].tolist()))
    for name, of_sklearn in (("f1_macro", f1_score), ("iou_macro", jaccard_score)):
        expected = of_sklearn(*flat, labels=labels, average="macro", zero_division=0)
        assert abs(metrics[name] - expected) < 1e-6, (name, metrics[name], expected)
    return {
        **{name: metrics[name] for name in ("iou_macro", "f1_macro", "accuracy")},
        "iou": {name: row["iou"] for name, row in metrics["per_class"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--minutes", type=float, default=20, help="training time of each network")
    parser.add_argument("--only", choices=("darkroom", "smp"))
    parser.add_argument("--width", type=int, default=20)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--init", default="kaiming", help="darkroom's model.init")
    parser.add_argument("--small", type=float, default=0.6, help="share of epochs with small images")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--crop", type=float, default=0.5, help="least area of a random crop")
    parser.add_argument("--colour", type=float, default=0.2)
    options = parser.parse_args()
    set_determinism(SEED, num_cores())
    import torch

    splits, class_names = read_camvid(options.archive)
    learners = {"darkroom": darkroom_learner, "smp": smp_learner}
    for name, make in learners.items():
        is_there = name == "darkroom" or find_spec("segmentation_models_pytorch")
        if options.only not in (None, name) or not is_there:
            continue
        torch.manual_seed(SEED)
        learner = make(options, splits["train"], len(class_names))
        figures = train(learner, options, len(splits["train"].images))
        given = vars(options) | {"archive": options.archive.name}
        keep(
            "segmentation",
            {
                "network": name,
                "parameters": sum(p.numel() for p in learner.model.parameters()),
                "options": {key: value for key, value in given.items() if key != "only"},
                **figures,
                "test": scores(learner.model, splits["test"], class_names),
                "val": scores(learner.model, splits["val"], class_names),
                **hardware_of_training("cpu"),
            },
        )


if __name__ == "__main__":
    main()
