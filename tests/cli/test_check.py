"""`hacore check`: all problems, all warnings, nothing touched."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import SETTINGS, Run


def test_good_settings(run: Run, settings_path: Path) -> None:
    result = run("check")
    assert result.exit_code == 0
    assert result.output == f"{settings_path}: good (node fw1, 1 VIP with 1 address)\n"


def test_every_problem_and_every_warning(run: Run, settings_path: Path) -> None:
    settings_path.write_text(
        SETTINGS.replace('interface = "lan"', 'interface = "nowhere0"').replace("vhid = 1", "vhid = 999")
        + "[carp]\nseal = 'on'\n"
    )
    settings_path.chmod(0o644)
    result = run("check")
    assert result.exit_code == 78
    assert "Error: 3 problems in the settings:\n" in result.stderr
    for key in ('vip "lan": vhid', 'vip "lan": interface: there is no interface "nowhere0"', "carp.seal"):
        assert f"  {settings_path}: {key}" in result.stderr
    assert "Warning: " in result.stderr
    assert "chmod 640" in result.stderr
    assert result.stdout == ""


def test_nothing_is_made(run: Run, tmp_path: Path) -> None:
    run("check")
    assert [path.name for path in tmp_path.iterdir()] == ["hacore.toml"]
