"""Install torch before everything else: its small CPU build on Linux without an NVIDIA card, else the usual build.

python tools/install_torch.py [INDEX]

It runs in the environment to install into. TORCH=cpu or TORCH=cuda chooses the build; INDEX is the index of another.
Only torch is taken from an index of its own; if that cannot be reached, pip takes torch from where it takes the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 4
CARDS = Path("/proc/driver/nvidia/gpus")
SMI_OF_WSL = "/usr/lib/wsl/lib/nvidia-smi"
_PROBE = """
import ssl, sys
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

try:
    urlopen(sys.argv[1], timeout=float(sys.argv[2])).close()
except HTTPError:
    pass
except URLError as error:
    # pip may know certificates that Python does not.
    sys.exit(not isinstance(error.reason, ssl.SSLError))
"""
PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]


def main(arguments: list[str]) -> None:
    """Install torch, or leave it to the installation of the rest."""
    requirement = torch_requirement()
    if is_installed(requirement):
        return
    index = arguments[0] if arguments else index_for(os.environ.get("TORCH", ""))
    if not index:
        return
    if not is_reachable(index):
        say(f"{index} cannot be reached within {PROBE_SECONDS} s: pip takes torch from its usual index")
        return
    say(f"installing torch from {index}")
    # Without dependencies: they, like everything else, come from pip's usual index.
    found = subprocess.run([*PIP, "--no-deps", "--index-url", index, requirement], check=False)
    if found.returncode != 0:
        say(f"torch cannot be installed from {index}: pip takes it from its usual index")


def torch_requirement(pyproject: Path = PYPROJECT) -> str:
    """Return the requirement of torch, such as `torch>=2.6`, that the server has."""
    with pyproject.open("rb") as file:
        requirements = tomllib.load(file)["project"]["optional-dependencies"]["server"]
    (found,) = (one for one in requirements if one.startswith("torch") and not one[5:6].isalnum())
    return str(found)


def index_for(choice: str) -> str:
    """Return the index of the build that was chosen or fits the machine, or an empty string for pip's usual one."""
    if choice not in ("", "auto", "cpu", "cuda"):
        raise SystemExit(f"TORCH={choice} is unknown: use cpu, cuda or auto")
    # The usual build for other systems than Linux has no CUDA.
    needs_cpu = choice == "cpu" or (choice != "cuda" and sys.platform == "linux" and not has_nvidia_card())
    return CPU_INDEX if needs_cpu else ""


def has_nvidia_card() -> bool:
    """Return True if the driver or nvidia-smi lists a card."""
    if CARDS.is_dir() and any(CARDS.iterdir()):
        return True
    command = shutil.which("nvidia-smi") or shutil.which(SMI_OF_WSL)
    if command is None:
        return False
    try:
        found = subprocess.run([command, "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0


def is_installed(requirement: str) -> bool:
    """Return True if pip need not install anything for the requirement."""
    command = [*PIP, "--no-index", "--no-deps", "--find-links", os.devnull, "--dry-run", requirement]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    bare |= {"PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, capture_output=True, check=False, env=bare).returncode == 0


def is_reachable(index: str) -> bool:
    """Return True unless nothing answers soon; an answer that is an error is left to pip, which says more about it."""
    # A process of its own: the look-up of a host's name has no timeout.
    command = [sys.executable, "-c", _PROBE, f"{index.rstrip('/')}/", str(PROBE_SECONDS)]
    try:
        found = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS + 1, check=False)
    except subprocess.TimeoutExpired:
        return False
    return found.returncode == 0


def say(message: str) -> None:
    """Print a message to standard error."""
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
