"""The root directories that the hosts run from, made once and kept in .cache of the tree:

    .cache/hosts/debian-...      a small Debian of this machine's release, from the mirror that apt uses here
    .cache/hosts/installed-...   a copy of it, in which the guide's lines have installed the wheel of this tree

`python -m tests.hosts.debian` makes both, and takes about two minutes the first time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.docs.markdown import ROOT, Block, blocks
from tests.namespaces import require

CACHE = ROOT / ".cache/hosts"
GUIDE = ROOT / "docs/setup.md"
#: What the guide has its reader install, and what the tests push and look with.
PACKAGES = (
    "conntrack", "dbus", "dnsmasq", "ifupdown", "iproute2", "iputils-ping", "nftables", "nginx-light", "procps",
    "python3", "python3-venv", "systemd", "systemd-sysv",
)  # fmt: skip
#: Of a package, what no test reads.
UNREAD = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt/archives")


def release() -> str:
    """The code name of this machine's Debian."""
    values = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    name = values.get("VERSION_CODENAME", "").strip('"')
    if values.get("ID", "").strip('"') != "debian" or not name:
        raise SystemExit("the hosts are made of this machine's own release of Debian, and this is none")
    return name


def mirror(name: str) -> str:
    """Where apt has this release from."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    for line in told.stdout.splitlines():
        words = line.split()
        if words[1:] == [name, "main"]:
            return words[0]
    raise SystemExit(f"apt is configured for no mirror with {name} main")


def _digest(parts: Iterator[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:12]


def _make(place: Path, fill: str, *arguments: str) -> None:
    """Runs `fill` with a directory beside `place` that becomes `place` when all went well."""
    unfinished = place.with_name(f"{place.name}.unfinished")
    subprocess.run(["rm", "-rf", "--one-file-system", unfinished], check=True)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", fill, fill, str(unfinished), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"cannot make {place}:\n{done.stdout[-4000:]}")
    unfinished.rename(place)


def debian() -> Path:
    """The plain root."""
    require("debootstrap", "systemd-nspawn")
    name = release()
    place = CACHE / f"debian-{name}-{_digest(iter([' '.join(PACKAGES).encode()]))}"
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f"making {place} with debootstrap\n")
        unread = " ".join(UNREAD)
        _make(
            place,
            'debootstrap --variant=minbase "--include=$2" "$3" "$1" "$4"; '
            f'cd "$1"; rm -rf {unread}; mkdir -p var/cache/apt/archives/partial; rm -f etc/machine-id etc/resolv.conf; '
            "touch etc/machine-id etc/resolv.conf",
            ",".join(PACKAGES),
            name,
            mirror(name),
        )
    return place


def _sources() -> Iterator[bytes]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "src", "contrib", "setup.py",
         "pyproject.toml", "docs/setup.md", "tests/hosts/debian.py"],
        cwd=ROOT, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    for name in sorted(listed.stdout.split(b"\0")):
        path = ROOT / os.fsdecode(name)
        if name and path.is_file():
            yield name
            yield path.read_bytes()


def installation() -> str:
    """The guide's block that installs the wheel."""
    return next(_block(text="python3 -m venv /opt/hacore")).text


def _block(text: str) -> Iterator[Block]:
    return (block for block in blocks(GUIDE) if text in block.text)


def installed() -> Path:
    """The root with hacore in it."""
    base = debian()
    place = CACHE / f"installed-{_digest(_sources())}-{base.name}"
    if not place.exists():
        sys.stderr.write(f"making {place} with the wheel of this tree\n")
        for older in CACHE.glob("installed-*"):
            subprocess.run(["rm", "-rf", "--one-file-system", older], check=True)
        wheels = CACHE / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        python = [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(wheels / "dist"),
            str(ROOT),
        ]
        build = subprocess.run(python, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if build.returncode:
            raise SystemExit(f"cannot build the wheel:\n{build.stdout[-4000:]}")
        (wheel,) = (wheels / "dist").glob("*.whl")
        # What the wheel needs is fetched here, where pip is configured; in the root the guide's own lines find it.
        subprocess.run([*pip, "wheel", "--wheel-dir", wheels / "dist", wheel], check=True, stderr=subprocess.DEVNULL)
        _make(
            place,
            """cp -a --reflink=auto "$2" "$1"
            cp -r "$3" "$1/wheels"
            cp "$3"/hacore-*.whl "$1/root/"
            PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels chroot "$1" bash -euc "$4"
            rm -r "$1/wheels"
            """,
            str(base),
            str(wheels / "dist"),
            installation(),
        )
        shutil.rmtree(wheels)
    return place


if __name__ == "__main__":
    installed()
