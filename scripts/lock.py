"""Writes the lock files, or checks without a network that they still fit pyproject.toml.

Resolving again would be the obvious check, but its answer changes whenever somebody publishes a
release, and fails with the network. So each lock records the digest of the tables it was made
from, and the check compares digests. It also refuses a lock that was edited by hand into
something `pip install --require-hashes` would not take, or that names a host.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"

LOCKS: dict[str, tuple[str, ...]] = {
    # What a deployment installs.
    "requirements.lock": ("pyproject.toml", "--extra", "postgres"),
    # What builds the wheel inside the image.
    "requirements-build.lock": ("--group", "build"),
    # Everything at once, for work on the project.
    "requirements-dev.lock": ("pyproject.toml", "--all-extras", "--group", "build"),
}
# A pin, its marker if any, and at least one hash: nothing else may stand in a lock.
PINNED = re.compile(
    r"[a-z0-9.-]+==[^\s;]+(?: ; [^\\\n]+)? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n"
)


def digest_of_dependencies() -> str:
    """The digest of the tables that decide what is installed, whatever their layout."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    tables = {
        "build-system": document["build-system"]["requires"],
        "dependencies": project["dependencies"],
        "dependency-groups": document["dependency-groups"],
        "optional-dependencies": project["optional-dependencies"],
        "requires-python": project["requires-python"],
    }
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def header() -> str:
    """The first line of every lock."""
    digest = digest_of_dependencies()
    return f"# Made by `make lock` from pyproject.toml; dependencies sha256:{digest}\n"


def write(*, upgrade: bool) -> None:
    """Resolve all locks; versions already locked stay unless `upgrade` is asked for."""
    for name, sources in LOCKS.items():
        command = ["uv", "pip", "compile", *sources, "--quiet", "--output-file", name]
        command += ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url"]
        if upgrade:
            command.append("--upgrade")
        try:
            subprocess.run(command, cwd=ROOT, check=True)
        except FileNotFoundError:
            sys.exit("make lock needs uv: https://docs.astral.sh/uv/")
        except subprocess.CalledProcessError as failure:
            sys.exit(failure.returncode)
        lock = ROOT / name
        lock.write_text(header() + lock.read_text(encoding="utf-8"), encoding="utf-8")


def findings() -> list[str]:
    """One sentence for every lock that does not fit, none when all is well."""
    found = []
    for name in LOCKS:
        lock = ROOT / name
        if not lock.exists():
            found.append(f"{name} is missing.")
            continue
        text = lock.read_text(encoding="utf-8")
        if not text.startswith(header()):
            found.append(f"{name} was made from other dependencies than pyproject.toml now has.")
        elif PINNED.sub("", text.removeprefix(header())).strip():
            found.append(f"{name} holds something that is not a pinned version with its hashes.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on a misfit")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions allowed")
    arguments = parser.parse_args()
    if not arguments.check:
        write(upgrade=arguments.upgrade)
    elif found := findings():
        sys.exit("\n".join([*found, "Run: make lock"]))


if __name__ == "__main__":
    main()
