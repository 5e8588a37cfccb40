"""fetch: public sets, own/fetch/ -> data/fetched/NAME/{,train/,val/,test/}CLASS/*, and NAME.json"""

from darkroom.config.fetch import FetchConfig
from darkroom.paths import CACHE, FETCHED
from darkroom.pipeline.stage import run_stage
from darkroom.runtime import Runtime
from darkroom.tracking.run import Run


def main(config: FetchConfig, runtime: Runtime, run: Run) -> None:
    from darkroom.collection.fetched import bring_sets
    from darkroom.collection.sources import fetch_set
    from darkroom.progress import progress_bar

    with progress_bar("fetch") as bar:
        sets = bring_sets(
            config.data.fetch,
            FETCHED,
            CACHE / "fetched",
            lambda name, folder: fetch_set(name, folder, bar),
        )
    for name, contents in sets.items():
        print(f"fetch: {contents} in {FETCHED / name}")
    if not sets:
        print("fetch: nothing to do, since data.fetch is []")


if __name__ == "__main__":
    run_stage("fetch", FetchConfig, main)
