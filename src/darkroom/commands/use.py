"""darkroom use: applies a recipe to params.yaml."""

import click


@click.command()
@click.argument("recipe", required=False)
@click.option("--sweep", metavar="NAME", help="Take the values of the best trial of a sweep.")
def use(recipe: str | None, sweep: str | None) -> None:
    """Write the values of RECIPE into params.yaml; without RECIPE, list all recipes.

    RECIPE is a name, or the path of a YAML file of your own, such as profiles/smoke.yaml.

    Comments and all other values stay. A recipe never changes decisions about the data (data.*, and how
    prepare selects and splits); those that differ from the recipe's are shown. `git
    diff params.yaml` shows the changes.
    """
    from darkroom.errors import UserError, counted
    from darkroom.installed import RECIPES
    from darkroom.params import flatten, load_params, shown
    from darkroom.paths import PARAMS
    from darkroom.recipes import find_recipe, list_recipes, use_recipe
    from darkroom.sweep.winner import BEST, differences, folder_of_sweep

    if recipe is not None and sweep is not None:
        raise UserError("RECIPE and --sweep exclude each other")
    if sweep is not None:
        recipe = f"{folder_of_sweep(sweep) / BEST}"
    if recipe is None:
        for name, about in list_recipes(RECIPES).items():
            click.echo(f"{name}\n    {about}")
        return
    recipe, folder = find_recipe(recipe)
    used = use_recipe(recipe, folder, PARAMS)
    for name, before, now in used.changes:
        click.echo(f"{name}: {shown(before)} -> {shown(now)}")
    click.echo(f"{PARAMS}: {counted(len(used.changes), 'value')} changed", err=True)
    if used.made_for:
        click.echo(
            f"{recipe} was made for other data than {PARAMS} names, which is unchanged; for the"
            " recipe's own, set:",
            err=True,
        )
        for name, _, recipes in used.made_for:
            click.echo(f"  {name}: {_as_yaml(recipes)}", err=True)
    if (precision := load_params(PARAMS).train.precision) != "float32":
        click.echo(
            f"train.precision: {precision} needs a GPU; to train on a CPU, set train.precision: float32",
            err=True,
        )
    if sweep is not None:
        for name, before, now in differences(folder_of_sweep(sweep), flatten(load_params(PARAMS))):
            click.echo(
                f"the sweep was run with {name} {shown(before)}, which is {shown(now)} now: the"
                " model will be another one than that of the best trial",
                err=True,
            )
    click.echo("next: dvc repro", err=True)


def _as_yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value)
