"""The package as it is installed: metadata, compiled kernels, the command, and what an import drags in."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import hacore

# Each costs tens of milliseconds or tens of megabytes; the node and the command line have budgets for both.
HEAVY = {"aiohttp", "asyncio", "cryptography", "numpy", "pyroute2", "rich", "scapy"}
KERNELS = sorted({path.name.partition(".")[0] for path in Path(hacore.__file__).parent.joinpath("_fast").glob("*.pyi")})


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after `statement`."""
    program = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_version_is_the_one_in_the_metadata() -> None:
    assert importlib.metadata.version("hacore") == hacore.__version__


def test_metadata_is_complete() -> None:
    metadata = importlib.metadata.metadata("hacore")
    assert metadata["License-Expression"] == "BSD-2-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or ()) >= {"capture", "test", "dev"}
    assert Path(hacore.__file__).with_name("py.typed").exists()


def test_every_kernel_is_compiled() -> None:
    for name in KERNELS:
        spec = importlib.util.find_spec(f"hacore._fast.{name}")
        assert spec is not None, name
        assert isinstance(spec.loader, importlib.machinery.ExtensionFileLoader), name
        assert spec.origin is not None
        assert spec.origin.endswith(sysconfig.get_config_var("EXT_SUFFIX")), name


@pytest.mark.parametrize("statement", ["import hacore"])
def test_import_drags_nothing_heavy_in(statement: str) -> None:
    assert modules_after(statement) & HEAVY == set()


def test_console_script_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="hacore")
    assert script.value == "hacore.cli:main"
    assert os.access(Path(sysconfig.get_path("scripts")) / "hacore", os.X_OK)
