"""darkroom use: writes a recipe into params.yaml."""

import click


@click.command()
@click.argument("recipe", required=False)
def use(recipe: str | None) -> None:
    """Write RECIPE's values into params.yaml; without RECIPE, list what there is.

    Comments and all other values stay. `git diff params.yaml` shows what has changed.
    """
    from darkroom.params import shown
    from darkroom.paths import PARAMS, RECIPES
    from darkroom.recipes import list_recipes, use_recipe

    if recipe is None:
        for name, about in list_recipes(RECIPES).items():
            click.echo(f"{name}\n    {about}")
        return
    changes = use_recipe(recipe, RECIPES, PARAMS)
    for name, before, now in changes:
        click.echo(f"{name}: {shown(before)} -> {shown(now)}")
    click.echo(f"{PARAMS}: {len(changes)} values changed; next: dvc repro", err=True)
