"""The names of branches: what they tell, and that they stay short."""

from hypothesis import given
from hypothesis import strategies as st

from shared.paths import MAX_PATH_LENGTH, head_path, merged_path

SEGMENTS = st.lists(st.text("ab:", min_size=1, max_size=3), max_size=4)
PATHS = SEGMENTS.map(lambda segments: "/".join(["main", *segments]))


def test_a_head_is_named_after_the_fork_it_comes_from() -> None:
    assert head_path("main", "split", "resize") == "main/split:resize"


def test_a_loop_that_forks_for_ever_does_not_name_its_branches_without_end() -> None:
    path = "main"
    for _ in range(1_000):
        path = head_path(path, "split", "resize")
    assert len(path) <= MAX_PATH_LENGTH
    assert path.startswith("main/split:resize/")


def test_a_name_that_does_not_fit_leaves_the_path_of_the_parent() -> None:
    assert head_path("main", "x" * MAX_PATH_LENGTH, "y") == "main"


def test_branches_that_meet_are_one_again() -> None:
    assert merged_path(["main/split:a", "main/split:b"]) == "main"
    assert merged_path(["main/s:a/t:c", "main/s:a/t:d"]) == "main/s:a"
    assert merged_path(["main/s:a"]) == "main/s:a"


def test_names_with_a_common_beginning_are_not_taken_for_a_common_branch() -> None:
    assert merged_path(["main/s:resize", "main/s:resized"]) == "main"


@given(st.lists(PATHS, min_size=2, max_size=5))
def test_a_merged_path_is_what_all_of_them_share(paths: list[str]) -> None:
    split = [path.split("/") for path in paths]
    shared = []
    for segments in zip(*split, strict=False):
        if len(set(segments)) > 1:
            break
        shared.append(segments[0])
    assert merged_path(paths) == "/".join(shared)
