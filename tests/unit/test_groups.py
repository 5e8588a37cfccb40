"""Groups of test images: those of the collection, and copies."""

import pyarrow as pa

from darkroom.metrics.groups import groups_of

MANIFEST = pa.table(
    {
        "path": ["a", "b", "c", "d", "e", "f", "g"],
        "group": ["x", None, "x", None, None, "y", None],
        "duplicate_of": [None, None, None, "b", None, None, "f"],
    }
)


def test_groups_are_those_of_the_collection_and_of_copies() -> None:
    found = groups_of(MANIFEST, ["d", "a", "e", "c", "b", "g"])
    assert found is not None
    assert found.tolist() == [0, 1, 2, 1, 0, 3]
    assert groups_of(MANIFEST, ["a", "b", "e"]) is None
    assert groups_of(MANIFEST.slice(1, 1), ["b", "a"]) is None


def test_copies_of_an_image_outside_the_test_split_belong_together() -> None:
    manifest = pa.table(
        {
            "path": ["original", "one", "two", "three"],
            "group": [None, None, None, "scene"],
            "duplicate_of": [None, "original", "original", "two"],
        }
    )
    found = groups_of(manifest, ["one", "two", "other"])
    assert found is not None
    assert found.tolist() == [0, 0, 1]
    # without the link, they are different images
    assert groups_of(manifest.slice(0, 2), ["one", "two", "other"]) is None
