"""The tests that docs/testing.md shows are good."""

import re
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_tests_of_the_guide_pass() -> None:
    (code,) = re.findall(r"```python\n(from flow_manager\.testing.*?)```", GUIDE.read_text(), re.S)
    names: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        test()
    assert len(tests) == 2
