"""How task types are found, and what a broken plug-in does."""

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydantic import BaseModel

from shared import registry as registry_module
from shared.errors import InvalidTask, NotFound
from shared.registry import Registry, announced_names, load_registry
from shared.task_context import TaskContext
from shared.tasks import BaseTask, TaskOutput

BUILTIN = {
    "cancel",
    "noop",
    "sleep",
    "fail",
    "http_request",
    "wait_for_signal",
    "fetch_data",
    "finish",
    "process_data",
    "store_data",
    "transform",
}

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _imports_left_as_they_were() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("flow_task_file_", "user_tasks")):
            del sys.modules[name]


def write(path: Path, source: str) -> str:
    path.write_text(f"from flow_manager import BaseTask, task\n{source}")
    return str(path)


def test_builtin_tasks_are_found_by_their_entry_points() -> None:
    registry = load_registry()
    assert registry.names() >= BUILTIN
    assert registry.problems == ()
    assert announced_names() >= BUILTIN
    assert "noop" in registry


def test_builtin_tasks_can_be_left_out() -> None:
    assert not load_registry(builtin=False).names() & BUILTIN


def test_described_with_schema_and_source() -> None:
    described = {found.name: found for found in load_registry().describe()}
    assert list(described) == sorted(described)
    assert described["noop"].params_schema is None
    assert described["fail"].params_schema["properties"]["message"]["type"] == "string"
    assert described["fail"].source.endswith("(worker.builtin:Fail)")
    assert "wait" in described["sleep"].description.lower()


def test_unknown_type_is_told_with_similar_names() -> None:
    with pytest.raises(NotFound, match="did you mean 'fetch_data'"):
        load_registry().get("fetch_dta")


def test_file_of_tasks_is_loaded_and_its_folder_appended(tmp_path: Path) -> None:
    (tmp_path / "user_tasks_near.py").write_text("WIDTH = 7\n")
    source = '''
import user_tasks_near
@task("mine")
def mine() -> None:
    """Mine."""
class Parent(BaseTask):
    async def run(self, context): return None
class Child(Parent):
    name = "child"
'''
    registry = load_registry([write(tmp_path / "json.py", source)], builtin=False)
    assert registry.problems == ()
    assert registry.names() == {"mine", "child"}
    assert sys.path[-1] == str(tmp_path)
    assert registry.describe()[1].source.endswith("json.py:mine")


def test_module_of_tasks_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "user_tasks_here.py", '@task("here")\ndef here() -> None: ...\n')
    monkeypatch.chdir(tmp_path)
    assert load_registry(["user_tasks_here"], builtin=False).names() == {"here"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("1 +", "SyntaxError"),
        ("x = 1", "holds no BaseTask class"),
        ('@task("end")\ndef end() -> None: ...', "name must be"),
        ("class Lazy(BaseTask):\n    name = 'lazy'", r"no run\(\)"),
    ],
)
def test_broken_module_is_listed_and_does_not_stop_the_others(
    tmp_path: Path, source: str, message: str
) -> None:
    broken = write(tmp_path / "broken.py", source)
    good = write(tmp_path / "good.py", '@task("good")\ndef good() -> None: ...\n')
    registry = load_registry([broken, good], builtin=False)
    assert registry.names() == {"good"}
    (problem,) = registry.problems
    assert problem.source == broken
    assert re.search(message, problem.message)
    assert "Traceback" in problem.traceback or "SyntaxError" in problem.traceback


def test_missing_file_is_listed(tmp_path: Path) -> None:
    registry = load_registry([str(tmp_path / "nowhere.py")])
    assert "there is no file" in registry.problems[0].message
    assert registry.names() >= BUILTIN


def test_two_of_one_name_are_refused_with_both_named(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", '@task("same")\ndef first() -> None: ...\n')
    two = write(tmp_path / "two.py", '@task("same")\ndef second() -> None: ...\n')
    with pytest.raises(InvalidTask, match=r"'same': .*one\.py:first and .*two\.py:second"):
        load_registry([one, two])


def test_same_file_twice_is_no_duplicate(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", '@task("same")\ndef first() -> None: ...\n')
    assert load_registry([one, one], builtin=False).names() == {"same"}


def test_entry_points_that_do_not_hold_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    group = registry_module.ENTRY_POINT_GROUP
    entries = [
        EntryPoint("absent", "no_such_module_anywhere:Absent", group),
        EntryPoint("other_name", "worker.builtin:Noop", group),
        EntryPoint("no_task", "worker.builtin:Iterator", group),
        EntryPoint("fail", "worker.builtin:Fail", group),
    ]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: entries)
    registry = load_registry()
    assert registry.names() == {"fail"}
    messages = sorted(problem.message for problem in registry.problems)
    assert len(messages) == 3
    assert "entry point is named 'other_name' but its task 'noop'" in messages[0]
    assert "neither a BaseTask class nor a @task function" in messages[1]
    assert messages[2].startswith("ModuleNotFoundError")


def test_params_without_a_schema_are_described_as_an_object() -> None:
    class Params(BaseModel):
        callback: Callable[[], int]

    class Odd(BaseTask):
        name = "odd"

        async def run(self, context: TaskContext) -> TaskOutput:
            return None

    Odd.Params = Params
    registry = Registry()
    registry.add(Odd)
    assert registry.describe()[0].params_schema == {"type": "object"}


def test_tasks_of_the_example_are_loaded() -> None:
    registry = load_registry([str(EXAMPLES / "media.py")])
    assert registry.problems == ()
    assert registry.names() >= {"split", "resize", "shrink", "tag", "scan", "publish"}
