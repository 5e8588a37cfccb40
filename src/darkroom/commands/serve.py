"""darkroom serve: answer predictions over HTTP."""

from pathlib import Path

import click

from darkroom.commands.options import format_option

INSTALL = "serve needs packages that are not installed ({}); install them: pip install 'darkroom[serve]'"


@click.command()
@click.argument("model", default="export", metavar="[EXPORT]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0: any that is free.",
)
@format_option
@click.option(
    "--abstain",
    is_flag=True,
    help="Answer `abstain` instead of an unsure class; see `darkroom predict`.",
)
@click.option("--tile", is_flag=True, help="Predict masks of large images in tiles.")
@click.option("--tiff", is_flag=True, help="Also read TIFF files.")
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    help="Maximum number of images that are classified together.",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(0, 1000),
    default=2,
    show_default=True,
    help="How long an image waits for others if the model is idle.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(1, 100_000),
    default=512,
    show_default=True,
    help="Maximum number of images that wait; more are answered with 503.",
)
@click.option(
    "--max-body-mib",
    type=click.FloatRange(0.01, 512),
    default=32,
    show_default=True,
    help="Maximum size of a request.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 103_000_000),
    default=50_000_000,
    show_default=True,
    help="Maximum number of pixels of an image; decoding takes 10 bytes for each (WebP, AVIF: 20).",
)
@click.option(
    "--max-files",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Maximum number of images in a request.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="Maximum number of open connections; more are answered with 503.",
)
@click.option(
    "--client-seconds",
    type=click.FloatRange(0.1, 3_600),
    default=20,
    show_default=True,
    help="How long a client may take to send its request; a large body may take longer.",
)
@click.option(
    "--stop-seconds",
    type=click.FloatRange(1, 3_600),
    default=30,
    show_default=True,
    help="How long requests under way may take after Ctrl-C or SIGTERM.",
)
@click.option(
    "--reload-seconds",
    type=click.FloatRange(0.1, 86_400),
    default=10,
    show_default=True,
    help="How often to look whether there is a new model.",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write how often each class was predicted, how surely and how unlike the training images the"
    " images were, by hour, into this folder; `darkroom drift` reads it.",
)
@click.option("--no-reload", is_flag=True, help="Keep the model that is loaded at the start.")
def serve(
    model: str,
    host: str,
    port: int,
    format_name: str,
    abstain: bool,
    tile: bool,
    tiff: bool,
    max_batch: int,
    max_wait_ms: float,
    max_waiting: int,
    max_body_mib: float,
    max_pixels: int,
    max_files: int,
    max_connections: int,
    client_seconds: float,
    stop_seconds: float,
    reload_seconds: float,
    log: Path | None,
    no_reload: bool,
) -> None:
    """Answer predictions over HTTP with the model in the folder EXPORT, or in the registry.

    EXPORT is a folder that the export stage wrote (default: export), or a version in the model registry,
    for example models:/darkroom@champion. An image gets the same answer as from `darkroom predict`:

        curl -F file=@IMAGE http://127.0.0.1:8000/predict

    The page at http://127.0.0.1:8000 takes an image by drag and drop. /model describes the model,
    /metrics has counters for Prometheus, /health and /ready are for load balancers.

    If the folder is written again, or the alias moves, the new model is loaded and takes over without a
    failed request; one that cannot be loaded is reported, and the present one stays. Ctrl-C and SIGTERM
    let requests under way finish; a second one ends at once.
    """
    from darkroom.errors import UserError
    from darkroom.runtime import load_runtime

    try:
        from darkroom.serving.server import listen, run
    except ImportError as error:
        raise UserError(INSTALL.format(error.name)) from None
    from darkroom.prediction.hourly import HourlyLog
    from darkroom.serving.engine import Batching, Engine
    from darkroom.serving.limits import MIB, Limits
    from darkroom.serving.models.interface import Options
    from darkroom.serving.service import Service
    from darkroom.serving.sources import make_source

    limits = Limits(
        max_body_bytes=round(max_body_mib * MIB),
        max_files=max_files,
        max_pixels=max_pixels,
        max_waiting=max_waiting,
        max_connections=max_connections,
        client_seconds=client_seconds,
        stop_seconds=stop_seconds,
    )
    engine = Engine(
        limits,
        Batching(max_batch=max_batch, max_wait_seconds=max_wait_ms / 1000),
        load_runtime().workers,
        HourlyLog(log) if log else None,
    )
    options = Options(format_name=format_name, tiff=tiff, abstain=abstain, tile=tile)
    source = make_source(model, options, engine)
    loaded = source.load()
    if log and not loaded.names_classes:
        raise UserError(f"--log {log}: masks have no classes to count; serve without it")
    with listen(host, port) as listening:
        run(Service(engine, source, loaded, None if no_reload else reload_seconds), listening)
