"""The machine and the programs of a run, as they stand in its result."""

from __future__ import annotations

import os
import platform
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import hacore
from hacore.bench.result import Machine
from hacore.errors import HacoreError

PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

PACKAGES = {"conntrackd": "conntrackd", "keepalived": "keepalived", "ucarp": "ucarp"}
"""The Debian package of each peer."""

_ASKED: dict[str, Sequence[str]] = {"conntrackd": ("-v",), "keepalived": ("-v",), "ucarp": ("-h",)}


class MissingProgram(HacoreError):
    """A peer that is to be measured is not installed."""

    exit_code = 69


def program(name: str) -> str:
    """The path of a peer. MissingProgram where it is not installed."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        raise MissingProgram(
            f"{name} is missing: install the Debian package {PACKAGES.get(name, name)}, "
            f"or leave it out: --without {name}"
        )
    return found


def versions(peers: Iterable[str]) -> dict[str, str]:
    """Of hacore (and its commit, where it runs from a checkout), Python, numpy, OpenSSL and these peers. MissingProgram
    where one is not installed.
    """
    found = {"hacore": hacore.__version__}
    if revision := commit(Path(hacore.__file__).parent):
        found["commit"] = revision
    found |= {"python": platform.python_version(), "numpy": np.__version__, "openssl": ssl.OPENSSL_VERSION.split()[1]}
    for name in peers:
        asked = subprocess.run([program(name), *_ASKED.get(name, ("--version",))], capture_output=True, check=False)
        number = re.search(rb"v?(\d+(?:\.\d+)+)", asked.stdout + asked.stderr)
        found[name] = number[1].decode() if number else "unknown"
    return found


def commit(directory: Path) -> str:
    """Of the checkout that `directory` is in, with a + where files that it knows were changed since; "" where it is in
    none.
    """
    asking = ["git", "-C", str(directory), "-c", "safe.directory=*"]
    try:
        known = subprocess.run([*asking, "ls-files", "--error-unmatch", "."], capture_output=True, check=False)
        asked = subprocess.run([*asking, "rev-parse", "--short=12", "HEAD"], capture_output=True, check=False)
        changed = subprocess.run([*asking, "diff", "--quiet", "HEAD"], capture_output=True, check=False)
    except OSError:
        return ""
    if known.returncode or asked.returncode:
        return ""
    return asked.stdout.decode().strip() + ("+" if changed.returncode else "")


def machine() -> Machine:
    """This one, with its load now as the load before."""
    load = round(os.getloadavg()[0], 2)
    return Machine(
        processor=_field("/proc/cpuinfo", r"^(?:model name|Processor|Hardware)\s*:\s*(.*)$") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int(_field("/proc/meminfo", r"^MemTotal:\s*(\d+)") or 0) * 1024,
        kernel=platform.release(),
        distribution=_field("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)"?$'),
        hash_buckets=_number("/proc/sys/net/netfilter/nf_conntrack_buckets"),
        load_before=load,
        load_after=load,
    )


def _number(path: str) -> int:
    return int(_field(path, r"^(\d+)") or 0)


def _field(path: str, pattern: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""
