"""fetch@NAME: a named public set -> data/NAME/CLASS/*.png, or data/NAME/{train,val,test}/CLASS/*.png"""

import sys

from darkroom.config import FetchConfig
from darkroom.paths import DATA
from darkroom.runtime import Runtime
from darkroom.stage import run_stage
from darkroom.tracking.run import Run


def main(config: FetchConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.data.sources import fetch_set
    from darkroom.progress import progress_bar

    name = sys.argv[1]
    with progress_bar(f"fetch {name}") as bar:
        num_images = fetch_set(name, DATA / name, bar)
    run.log_metrics({"num_images": num_images})
    run.describe("Fetched", {"set": name, "images": f"{num_images:,}", "folder": DATA / name})
    print(f"fetch: {num_images:,} images in {DATA / name}")


if __name__ == "__main__":
    run_stage("fetch", FetchConfig, main, item=sys.argv[1])
