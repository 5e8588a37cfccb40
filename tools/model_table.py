"""Count every network of the installed torchvision and timm, for `darkroom models` (half an hour)."""

from darkroom.catalogue.counting import count_models, installed_names
from darkroom.catalogue.table import LIBRARIES, ModelTable, installed_version
from darkroom.progress import progress_bar

if __name__ == "__main__":
    names = installed_names()
    counted = []
    with progress_bar("count", len(names), "models") as bar:
        for model in count_models(names):
            counted.append(model)
            bar.advance(1)
    versions = {name: installed_version(name) for name in LIBRARIES}
    ModelTable(versions, counted).write()
