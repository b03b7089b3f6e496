"""An environment of its own for each peer, made here and used again.

Peers need versions of the same packages that exclude each other, so none of them is ever
installed beside the product or beside another peer. Environments and everything else that a
run writes lie in ``.bench/`` in the project's folder, which Git does not see.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
WORKSPACE = PROJECT / ".bench"
REQUIREMENTS = Path(__file__).resolve().parent / "peers" / "requirements"


def open_workspace() -> Path:
    """The folder for everything that a run leaves; it tells Git to pass it by."""
    WORKSPACE.mkdir(exist_ok=True)
    (WORKSPACE / ".gitignore").write_text("*\n", "utf-8")
    return WORKSPACE


def interpreter(peer: str) -> Path:
    """The interpreter of that peer's environment, which is made where it is missing or old.

    Raises:
        subprocess.CalledProcessError: the installer failed; it has said why.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    directory = open_workspace() / peer
    python = directory / "bin" / "python"
    stamp = directory / "made-from"
    made_from = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text("ascii") == made_from:
        return python
    if directory.exists():
        shutil.rmtree(directory)
    _install(directory, python, requirements)
    stamp.write_text(made_from, "ascii")
    return python


def _install(directory: Path, python: Path, requirements: Path) -> None:
    print(f"making the environment of {directory.name} ...", file=sys.stderr, flush=True)
    if _has_uv():
        _run("uv", "venv", "--quiet", "--python", sys.executable, str(directory))
        install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    else:
        _run(sys.executable, "-m", "venv", str(directory))
        install = [str(python), "-m", "pip", "install", "--quiet"]
    _run(*install, "--require-hashes", "-r", str(requirements))


def _has_uv() -> bool:
    if shutil.which("uv") is None:
        return False
    # A shim of a version manager may be on the path with nothing behind it.
    return subprocess.run(["uv", "--version"], capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
