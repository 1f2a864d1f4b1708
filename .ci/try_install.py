"""Installs the wheels and sdists of package and client without a network, and runs them, on each Python that is given.

    python .ci/try_install.py python3.11 python3.12 python3.13

The packages are downloaded first; the installation sees nothing else (--no-index), and the job runs in a network
namespace without a network where the system allows that (Linux).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_NETWORK = ["unshare", "--map-root-user", "--net"]
MASKS = ("gmseg", "wmseg", "seg")


def main(pythons: list[str]) -> None:
    for python in pythons:
        if shutil.which(python) is None:
            sys.exit(f"{python}: no such Python; install it, or leave it out")
    offline = _allowed(NO_NETWORK)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "dist")
        for source in (ROOT, ROOT / "serving" / "client"):
            _run(sys.executable, "-m", "build", "--outdir", built, source)
        _run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
        for python in pythons:
            _try_python(python, built, Path(folder, python.replace("/", "_")), offline)


def _try_python(python: str, built: Path, folder: Path, offline: list[str]) -> None:
    downloads = folder / "downloads"
    _run(python, "-m", "venv", folder / "download")
    # An sdist is built where it is installed, in an environment with these.
    needs = (*built.glob("*.whl"), "setuptools>=77", "wheel")
    _run(folder / "download/bin/pip", "download", "--quiet", "--dest", downloads, *needs)
    network = "without a network" if offline else "with a network"
    for package in sorted(built.iterdir()):
        environment = folder / package.name
        _run(python, "-m", "venv", environment)
        _run(environment / "bin/pip", "install", "--quiet", "--no-index", "--find-links", downloads, package)
        if package.name.startswith("keras_scgm_client-"):
            done = _run(*offline, environment / "bin/scgm-client", "--version").strip()
        else:
            done = _run_demo(environment, package.name, offline)
        print(f"{python}: {package.name} installed; {network}: {done}", flush=True)
        shutil.rmtree(environment)


def _run_demo(environment: Path, package: str, offline: list[str]) -> str:
    command = environment / "bin/keras-scgm"
    version = _run(command, "--version").splitlines()[0]
    job = _run(*offline, command, "demo", environment / "demo", "--no-show")
    missing = [mask for mask in MASKS if not list((environment / "demo").glob(f"*_{mask}.nii.gz"))]
    if missing:
        sys.exit(f"{package}: no mask {', '.join(missing)} in what demo wrote")
    return f"{version}, {job.splitlines()[-1]}"


def _allowed(command: list[str]) -> list[str]:
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return command


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:] or ["python3"])
