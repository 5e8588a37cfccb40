"""darkroom sweep: trains many combinations of parameters and tells which is the best."""

import json
from pathlib import Path

import click

from darkroom.commands.options import json_option, ray_option


@click.command()
@click.argument("file", default="sweep.yaml", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only check FILE and params.yaml, and train nothing.")
@click.option("--example", is_flag=True, help="Print a file to start from.")
@ray_option
@json_option
def sweep(file: Path, check: bool, example: bool, address: str | None, as_json: bool) -> None:
    """Train the combinations of parameters that FILE (sweep.yaml) describes, and compare them.

    Trials are compared by macro F1 on the validation images; the test images are not used. The results
    are in sweeps/NAME/. An interrupted command resumes, and no trial is lost or repeated. `darkroom use
    --sweep NAME` writes the best values into params.yaml.
    """
    from darkroom.sweep.example import EXAMPLE

    if example:
        click.echo(EXAMPLE, nl=False)
        return
    from darkroom.cluster import connected
    from darkroom.compute.determinism import configure_libraries
    from darkroom.errors import counted
    from darkroom.parallel import OrderedMap, ordered_map
    from darkroom.params import load_params
    from darkroom.paths import PARAMS
    from darkroom.runtime import load_runtime
    from darkroom.terminal import make_console

    params, runtime = load_params(PARAMS), load_runtime()
    configure_libraries(params.train.deterministic)
    from darkroom.sweep.definition import load_sweep  # loads NumPy

    asked = load_sweep(file, params)
    if check:
        click.echo(f"{file}: {counted(asked.num_trials, 'trial')} of {asked.sampler}", err=True)
        return
    from darkroom.sweep.run import run_sweep
    from darkroom.sweep.winner import REPORT

    apply: OrderedMap = ordered_map
    if address is not None:
        may_use_gpus = runtime.device in ("auto", "cuda")
        to_cluster = connected(address, params.num_threads, may_use_gpus)
        apply = click.get_current_context().with_resource(to_cluster).map
    summary, folder = run_sweep(asked, runtime, apply)
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
        return
    make_console().print(summary.table())
    for sentence in summary.sentences:
        click.echo(sentence)
    click.echo(f"See {folder / REPORT}")
    click.echo(f"next: darkroom use --sweep {asked.name}", err=True)
