"""Compares darkroom's training with the loops that others start from, on 10,000 images of CIFAR-10.

    python benchmarks/peers.py cifar10-jpeg.tar.xz [--device cpu] [--epochs 2] [--prepared FOLDER]

The archive holds ``cifar10/{train,test}/CLASS/*.jpg``; the first 1,000 files of each class are learnt.
All train darkroom's ResNet-20 with the same SGD on batches of 128, cropped and flipped at random:

- ``hand_written``: torchvision's ImageFolder and transforms, a DataLoader with a worker a core, and a
  plain loop that reads the loss at every step;
- ``lightning``, ``timm``: the same loader with Lightning's Trainer; the same loop with timm's loader;
  each where it is installed. timm leaves out an epoch's last images, which fill no batch;
- ``darkroom``, and ``darkroom_fast`` with ``train.deterministic: false``: ``fit`` on prepared images.

Each has a process of its own; they train an epoch each in turns. An epoch's time begins with the making
of data set and loader (in the first one), not with imports. ``prepare_seconds`` is what darkroom takes
before, once: of the stage where its packages are installed, else of decoding and writing shards alone.

Prints a JSON line and adds it to benchmarks/results/peers.jsonl. Ratios are of images/s, one an epoch;
``with_preparation`` counts prepare and all epochs so far. ``--table`` makes a table of the newest lines.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from machine import describe, hardware_of_training, keep, kept, num_cores
from numpy.typing import NDArray

from darkroom.compute.determinism import configure_libraries
from darkroom.dataset.shard_writer import ShardWriter
from darkroom.decoding.decode import PixelLayout, decode

BATCH_SIZE = 128
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": True}
CROP_PADDING = 4
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
NUM_HELD_OUT = 10
"""Of each class for validation, and as many for a test: darkroom's stages want them."""

Turn = Callable[[], None]
"""Ends an epoch, and waits for the next one's turn."""


def train_by_hand(images: Path, device: str, turn: Turn) -> None:
    import torch.nn.functional as F

    model, optimizer = _model_and_optimizer(device)
    turn()
    loader = _image_folder_loader(images, device)
    while True:
        running_loss = 0.0
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        turn()


def train_with_timm(images: Path, device: str, turn: Turn) -> None:
    import torch.nn.functional as F
    from timm.data import ImageDataset, create_loader
    from timm.data.transforms import ToNumpy
    from timm.utils import AverageMeter
    from torchvision import transforms

    model, optimizer = _model_and_optimizer(device)
    turn()
    on_gpu = device == "cuda"
    loader = create_loader(
        ImageDataset(str(images / "train")),
        input_size=(3, 32, 32),
        batch_size=BATCH_SIZE,
        is_training=True,
        use_prefetcher=on_gpu,  # its own normalisation and copying, for a GPU only
        mean=MEAN,
        std=STD,
        num_workers=num_cores(),
        pin_memory=on_gpu,
    )
    to_inputs = [ToNumpy()] if on_gpu else [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    loader.dataset.transform = transforms.Compose([*_crop_and_flip(), *to_inputs])
    while True:
        losses = AverageMeter()
        for inputs, targets in loader:
            if not on_gpu:
                inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(targets))
        turn()


def train_with_lightning(images: Path, device: str, turn: Turn) -> None:
    import pytorch_lightning as pl
    import torch.nn.functional as F

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.optimizer = _model_and_optimizer(device)

        def training_step(self, batch: Any, batch_index: int) -> Any:
            inputs, targets = batch
            loss = F.cross_entropy(self.model(inputs), targets)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return self.optimizer

        def on_train_epoch_end(self) -> None:
            turn()

    module = Module()
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    turn()
    trainer.fit(module, _image_folder_loader(images, device))


def train_with_darkroom(
    prepared: Path, device_name: str, turn: Turn, deterministic: bool = True
) -> None:
    configure_libraries(deterministic)
    import torch
    from training import AUGMENT, SEED, TRAIN, WORKLOADS, make_model, make_plain_loss, section

    from darkroom.augment.pipeline import Augmentation
    from darkroom.compute.determinism import set_determinism
    from darkroom.dataset.shards import Shards
    from darkroom.loading.batches import Batches
    from darkroom.training.engine import fit
    from darkroom.training.state import TrainingState

    set_determinism(SEED, num_cores(), deterministic)
    device = torch.device(device_name)
    model = make_model(WORKLOADS["cifar"]).to(device)
    options = section(TRAIN | {"schedule": "constant", "label_smoothing": 0.0, "lr": SGD["lr"]})
    augmentation = Augmentation(section(AUGMENT | {"crop_padding": CROP_PADDING}), SEED)
    turn()
    train = Batches(Shards(prepared / "train"), device, BATCH_SIZE)
    val = Batches(Shards(prepared / "val"), device, BATCH_SIZE)
    state = TrainingState(model, options, train.num_steps)
    epochs = fit(
        state,
        lambda epoch, step: train.epoch(SEED, epoch, augmentation, step),
        lambda _: val,
        make_plain_loss(options, device),
        options,
        SEED,
    )
    for _ in epochs:
        turn()


PEERS: dict[str, Callable[[Path, str, Turn], None]] = {
    "hand_written": train_by_hand,
    "darkroom": train_with_darkroom,
    "darkroom_fast": partial(train_with_darkroom, deterministic=False),
    "timm": train_with_timm,
    "lightning": train_with_lightning,
}
PACKAGES = {"timm": "timm", "lightning": "pytorch_lightning"}


def _model_and_optimizer(device: str) -> tuple[Any, Any]:
    import torch
    from torch import optim

    # the arithmetic of darkroom; torch's default would round factors of convolutions on a GPU
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    from darkroom.models.backbones.resnet import ResNet
    from darkroom.models.heads import LinearHead
    from darkroom.models.network import Network

    backbone = ResNet(
        channels=3, width=16, depth=3, stochastic_depth=0, activation="relu", pooling="stride"
    )
    model = Network(backbone, LinearHead(64, num_classes=10, dropout=0.1)).to(device).train()
    return model, optim.SGD(model.parameters(), **SGD)


def _crop_and_flip() -> list[Any]:
    from torchvision import transforms

    return [transforms.RandomCrop(32, padding=CROP_PADDING), transforms.RandomHorizontalFlip()]


def _image_folder_loader(images: Path, device: str) -> Any:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    to_inputs = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    dataset = ImageFolder(str(images / "train"), transforms.Compose([*_crop_and_flip(), *to_inputs]))
    return DataLoader(
        dataset, BATCH_SIZE, shuffle=True, num_workers=num_cores(), pin_memory=device == "cuda"
    )


class Turns:
    """A child's side: trains an epoch for each line on stdin, and answers with its seconds."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._began: float | None = None

    def __call__(self) -> None:
        if self._began is not None:
            if self._device == "cuda":
                import torch

                torch.cuda.synchronize()
            self._say(f"{time.perf_counter() - self._began}")
        else:
            self._say("ready")
        if not sys.stdin.readline():
            os._exit(0)
        self._began = time.perf_counter()

    def _say(self, word: str) -> None:
        print(f"peer: {word}", flush=True)


class Peer:
    """The other side of ``Turns``."""

    def __init__(self, name: str, images: Path, device: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        command = [sys.executable, __file__, str(images), "--child", name, "--device", device]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def train_epoch(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.seconds.append(float(self._answer()))

    def end(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        for line in stdout:
            if line.startswith("peer: "):
                return line.removeprefix("peer: ").strip()
        sys.exit(f"{self.name} ended")


def unpack(archive: Path, folder: Path, images_per_class: int) -> Path:
    """Writes ``train/CLASS``, and small ``val/CLASS`` and ``test/CLASS`` of other images."""
    most = {"train": images_per_class, "test": 2 * NUM_HELD_OUT}
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile():
                continue
            split, label, name = Path(member.name).parts[-3:]
            number = int(Path(name).stem)
            if number < most[split]:
                if split == "test" and number < NUM_HELD_OUT:
                    split = "val"
                file = folder / split / label / name
                file.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                file.write_bytes(source.read())
    return folder


def prepare_by_stage(project: Path) -> Path:
    """Runs darkroom's stage on ``project/data/images``."""
    environment = {**os.environ, "DARKROOM_TRACKING": "off", "PYTHONPATH": str(project / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with compiled modules, as is usual
    subprocess.run(
        [sys.executable, "stages/prepare.py"],
        cwd=project,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return project / "data/prepared"


def prepare_by_hand(images: Path, prepared: Path) -> Path:
    """Decodes train and val in a process a core, and writes their shards."""
    with ProcessPoolExecutor(num_cores()) as pool:
        for split in ("train", "val"):
            files = sorted((images / split).glob("*/*"))
            labels = {name: label for label, name in enumerate(sorted({f.parent.name for f in files}))}
            with ShardWriter(prepared / split, (32, 32, 3), len(files)) as writer:
                for file, pixels in zip(files, pool.map(_decode, files, chunksize=100), strict=True):
                    writer.add(pixels, labels[file.parent.name], file.name)
    return prepared


def _decode(file: Path) -> NDArray[Any]:
    return decode(file.read_bytes(), PixelLayout(32, 32, 3, "stretch"))[1]


def prepare(images: Path, folder: Path) -> tuple[Path, str, float]:
    """Returns the prepared folder, how it was made, and the seconds it took."""
    if any(find_spec(package) is None for package in ("mlflow", "pydantic", "ruamel")):
        began = time.perf_counter()
        return prepare_by_hand(images, folder / "prepared"), "decode", time.perf_counter() - began
    from prepare import make_project

    project = folder / "project"
    make_project(project, 32, split="given", duplicates="keep")
    (project / "data").mkdir()
    images.rename(project / "data/images")
    images.symlink_to(project / "data/images")
    began = time.perf_counter()
    return prepare_by_stage(project), "stage", time.perf_counter() - began


def _ratios(others: Iterable[float], own: Iterable[float]) -> Iterator[float]:
    for other_seconds, own_seconds in zip(others, own, strict=True):
        yield round(other_seconds / own_seconds, 3)


def compare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    images = unpack(args.archive, folder / "images", args.images_per_class)
    if args.prepared is not None:
        prepared, how, prepare_seconds = args.prepared, "given", None
    else:
        prepared, how, prepare_seconds = prepare(images, folder)
    names = [name for name in PEERS if name not in PACKAGES or find_spec(PACKAGES[name]) is not None]
    peers = {}
    for name in names:
        source = prepared if name.startswith("darkroom") else images
        peers[name] = Peer(name, source, args.device)
    for _ in range(args.epochs):
        for peer in peers.values():
            peer.train_epoch()
    for peer in peers.values():
        peer.end()
    num_images = args.images_per_class * 10
    own = peers["darkroom"].seconds
    others = [name for name in peers if not name.startswith("darkroom")]
    with_preparation = {}
    if prepare_seconds is not None:
        own_so_far = [prepare_seconds + seconds for seconds in accumulate(own)]
        with_preparation = {
            name: list(_ratios(accumulate(peers[name].seconds), own_so_far)) for name in others
        }
    return {
        "darkroom_over": {name: list(_ratios(peers[name].seconds, own)) for name in peers},
        "with_preparation": with_preparation,
        "images_per_second": {
            name: [round(num_images / seconds, 1) for seconds in peer.seconds]
            for name, peer in peers.items()
        },
        "prepare_seconds": prepare_seconds and round(prepare_seconds, 2),
        "prepared_by": how,
        "num_images": num_images,
        "batch_size": BATCH_SIZE,
    }


def table(lines: Iterable[dict[str, Any]]) -> str:
    """Makes a Markdown table of the newest line of each machine: of the last epoch."""
    newest = {describe(line): line for line in lines}
    rows = [
        "| hardware | loop | images/s | darkroom over it | with preparation |",
        "|---|---|---|---|---|",
    ]
    for hardware, line in newest.items():
        for name, rates in line["images_per_second"].items():
            over, whole = line["darkroom_over"][name][-1], line["with_preparation"].get(name, [""])[-1]
            rows.append(f"| {hardware} | {name.replace('_', ' ')} | {rates[-1]} | {over} | {whole} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, nargs="?", help="cifar10-jpeg.tar.xz")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the newest results")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images-per-class", type=int, default=1_000)
    parser.add_argument("--prepared", type=Path, help="data/prepared with these images, made before")
    parser.add_argument("--folder", type=Path, help="where to unpack the images")
    parser.add_argument("--child", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        PEERS[args.child](args.archive, args.device, Turns(args.device))
        return
    if args.table:
        print(table(kept("peers")))
        return
    if args.archive is None:
        parser.error("say where the archive of images is")
    with TemporaryDirectory(dir=args.folder) as folder:
        figures = compare(args, Path(folder))
    configure_libraries()  # now that no child inherits it: the fingerprint is that of darkroom's
    keep("peers", {**figures, **hardware_of_training(args.device)})


if __name__ == "__main__":
    main()
