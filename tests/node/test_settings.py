"""The settings: the documented file loads, and everything wrong is named with its key, all of it at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

import msgspec.structs
import pytest
from msgspec import Struct

from hacore._fast.table import MAX_STATES
from hacore.errors import Problem, SettingsError
from hacore.node import settings_tables
from hacore.node.settings import Settings, examine, load, load_directories

DATA = Path(__file__).with_name("data")
NODE = '[node]\nname = "fw1"\n'
VIP = '[[vip]]\nname = "lan"\ninterface = "lan"\nvhid = 1\npassword = "secret"\naddresses = ["192.0.2.1/24"]\n'
SECOND = VIP.replace('"lan"', '"wan"').replace("192.0.2.1", "198.51.100.1")


def written(directory: Path, text: str) -> Path:
    path = directory / "hacore.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def problems(directory: Path, text: str) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        load(written(directory, text))
    assert caught.value.exit_code == 78
    return list(caught.value.problems)


@pytest.fixture
def documented(tmp_path: Path) -> Settings:
    for name in ("hacore.toml", "carp.key"):
        shutil.copy(DATA / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    return load(tmp_path / "hacore.toml")


def test_the_documented_file_loads(documented: Settings, tmp_path: Path) -> None:
    assert documented.warnings == ()
    assert documented.node.name == "fw1"
    assert documented.interfaces == ("lan", "wan")
    lan, wan = documented.vips
    assert lan.addresses == (IPv4Interface("10.1.0.1/16"), IPv6Interface("2001:db8:1::1/64"))
    assert (lan.vhid, lan.advbase, lan.advskew, lan.virtual_mac, lan.sync, lan.advskew_step) == (
        1,
        1,
        0,
        True,
        True,
        100,
    )
    assert bytes(wan.password) == b"not-a-secret"
    assert wan.password_file == tmp_path / "carp.key"
    assert documented.checks[0].command == ("ping", "-c1", "-W1", "10.2.0.254")
    assert documented.hooks[0].on == ("MASTER", "BACKUP", "INIT")
    assert str(documented.peers[0].states) == "10.9.0.2:8116"
    assert documented.states is not None
    assert documented.states.max_states == 2_000_000
    assert [ignore.protocol for ignore in documented.states.ignore] == ["icmp", None]
    assert documented.control is not None
    assert str(documented.control.certificate) == "/var/lib/hacore/tls/node.crt"
    assert [section.id for section in documented.sections] == ["rules", "vips"]
    assert documented.services[1].status == ("/usr/local/bin/relay", "status")


def test_two_loads_are_equal_and_show_no_password(documented: Settings) -> None:
    assert load(documented.path) == documented
    assert "not-a-secret" not in repr(documented)


BAD = [
    pytest.param(
        "[[section]]\nid = 'a'\npaths = ['/etc/w']\n[[section]]\nid = 'b'\npaths = ['/etc/x', '/etc/w/inner']",
        'section "b": paths[2]',
        '/etc/w/inner overlaps /etc/w of the section "a"',
        id="sections-overlap",
    ),
    # what stands in the file, the key and a piece of the message
    pytest.param("node = 3", "node", "must be a table, written [node]", id="table-is-a-number"),
    pytest.param("vip = 3", "vip", "must be an array of tables, each written [[vip]]", id="array-is-a-number"),
    pytest.param("[vip]\nvhid = 1", "vip", "[[vip]]", id="single-brackets"),
    pytest.param("[crap]", "crap", "did you mean [carp]?", id="unknown-table"),
    pytest.param("[node]\nnmae = 'x'", "node.nmae", "did you mean name?", id="misspelt-key"),
    pytest.param("[node]\npreempt = true", "node.preempt", "belongs in [carp]", id="key-of-another-table"),
    pytest.param("[node]\nname = 'a b'", "node.name", "letters, digits", id="name-with-a-space"),
    pytest.param("[node]\nname = ''", "node.name", 'not ""', id="empty-name"),
    pytest.param("[node]\nruntime_dir = 7", "node.runtime_dir", "a path such as", id="path-is-a-number"),
    pytest.param(f"[node]\nruntime_dir = '/{'x' * 120}'", "node.runtime_dir", "too long", id="socket-path-too-long"),
    pytest.param(
        "[node]\nstate_dir = '/run/hacore'", "node.state_dir", "must not be runtime_dir", id="directories-equal"
    ),
    pytest.param("[node]\nrealtime = 'maybe'", "node.realtime", '"prefer" or "require"', id="realtime"),
    pytest.param("[node.variables]\na = 1", "node.variables", "a must be a string, not 1", id="variable-is-a-number"),
    pytest.param("[carp]\npreempt = 'yes'", "carp.preempt", "true or false", id="flag-is-a-string"),
    pytest.param("[carp]\nseal = 'require'", "carp.seal", "sealed adverts", id="sealed-adverts"),
    pytest.param("[carp]\nseal = 'on'", "carp.seal", 'must be "off"', id="seal-unknown"),
    pytest.param("[carp]\nrekey_time = -1", "carp.rekey_time", "from 0 to 86400", id="rekey-time"),
    pytest.param(VIP.replace("vhid = 1", "vhid = 0"), 'vip "lan": vhid', "from 1 to 255, not 0", id="vhid-0"),
    pytest.param(VIP.replace("vhid = 1", "vhid = 256"), 'vip "lan": vhid', "not 256", id="vhid-256"),
    pytest.param(VIP.replace("vhid = 1", "vhid = 1.0"), 'vip "lan": vhid', "not 1.0", id="vhid-is-a-float"),
    pytest.param(VIP.replace("vhid = 1", "vhid = true"), 'vip "lan": vhid', "not true", id="vhid-is-a-flag"),
    pytest.param(VIP.replace("vhid = 1\n", ""), 'vip "lan": vhid', "is missing", id="vhid-missing"),
    pytest.param(VIP + "advbase = 255", 'vip "lan": advbase', "from 0 to 254", id="advbase-255"),
    pytest.param(VIP + "advskew = 255", 'vip "lan": advskew', "from 0 to 254", id="advskew-255"),
    pytest.param(VIP + "advskew = -1", 'vip "lan": advskew', "not -1", id="advskew-negative"),
    pytest.param(
        VIP.replace('"lan"\nvhid', '"a/b"\nvhid'), 'vip "lan": interface', "name of an interface", id="interface-slash"
    ),
    pytest.param(
        VIP.replace('"lan"\nvhid', f'"{"l" * 16}"\nvhid'), 'vip "lan": interface', "15 bytes", id="interface-long"
    ),
    pytest.param(VIP.replace('name = "lan"\n', ""), "vip[1].name", "is missing", id="vip-without-name"),
    pytest.param(VIP + VIP.replace("vhid = 1", "vhid = 2"), "vip[2].name", "names vip[1] already", id="vip-name-twice"),
    pytest.param(
        VIP + SECOND.replace('"wan"\nvhid', '"lan"\nvhid'), 'vip "wan": vhid', 'is taken by vip "lan"', id="vhid-twice"
    ),
    pytest.param(VIP.replace("/24", ""), 'vip "lan": addresses[1]', "has no prefix length", id="no-prefix"),
    pytest.param(VIP.replace("/24", "/33"), 'vip "lan": addresses[1]', "from 1 to 32", id="prefix-33"),
    pytest.param(VIP.replace("2.1/24", "2.0/24"), 'vip "lan": addresses[1]', "the network's address", id="network"),
    pytest.param(VIP.replace("2.1/24", "2.255/24"), 'vip "lan": addresses[1]', "broadcast address", id="broadcast"),
    pytest.param(
        VIP.replace("192.0.2.1/24", "2001:db8::/64"), 'vip "lan": addresses[1]', "anycast", id="subnet-anycast"
    ),
    pytest.param(
        VIP.replace("192.0.2.1/24", "2001:db8::1/129"), 'vip "lan": addresses[1]', "from 1 to 128", id="prefix-129"
    ),
    pytest.param(
        VIP.replace("192.0.2.1", "192.0.2.256"), 'vip "lan": addresses[1]', "an address with its prefix", id="octet"
    ),
    pytest.param(
        VIP.replace("192.0.2.1", "224.0.0.18"), 'vip "lan": addresses[1]', "a multicast address", id="multicast"
    ),
    pytest.param(VIP.replace("192.0.2.1", "127.0.0.1"), 'vip "lan": addresses[1]', "a loopback address", id="loopback"),
    pytest.param(VIP.replace("192.0.2.1/24", "fe80::1%lan/64"), 'vip "lan": addresses[1]', 'without "%"', id="scope"),
    pytest.param(
        VIP.replace('["192.0.2.1/24"]', "[]"), 'vip "lan": addresses', "at least one address", id="no-addresses"
    ),
    pytest.param(
        VIP.replace('["192.0.2.1/24"]', '"192.0.2.1/24"'), 'vip "lan": addresses', "must be a list", id="not-a-list"
    ),
    pytest.param(
        VIP.replace('1/24"', '1/24", "192.0.2.1/25"'),
        'vip "lan": addresses[2]',
        "in this list already",
        id="address-twice",
    ),
    pytest.param(
        VIP + SECOND.replace("198.51.100.1", "192.0.2.1"),
        'vip "wan": addresses[1]',
        'in vip "lan" already',
        id="address-of-another",
    ),
    pytest.param(VIP.replace('"secret"', f'"{"x" * 21}"'), 'vip "lan": password', "20 bytes", id="password-long"),
    pytest.param(VIP.replace('password = "secret"\n', ""), 'vip "lan": password_file', "is missing", id="no-password"),
    pytest.param(VIP + 'password_file = "k"', 'vip "lan": password', "beside password_file", id="two-passwords"),
    pytest.param(
        VIP.replace('password = "secret"', 'password_file = "none"'),
        'vip "lan": password_file',
        "does not exist",
        id="no-key-file",
    ),
    pytest.param(
        VIP.replace('password = "secret"', 'password_file = "/"'),
        'vip "lan": password_file',
        "not a regular file",
        id="key-directory",
    ),
    pytest.param(
        VIP + 'peer6 = "2001:db8::2"', 'vip "lan": peer6', "needs an IPv6 address", id="peer-of-absent-family"
    ),
    pytest.param(
        VIP + 'peer = "192.0.2.1"', 'vip "lan": peer', "is a virtual address of this VIP", id="peer-is-the-vip"
    ),
    pytest.param(
        VIP + 'peer = "2001:db8::2"', 'vip "lan": peer', "an IPv4 address without prefix", id="peer-of-wrong-family"
    ),
    pytest.param("[[check]]\nname = 'c'", 'check "c": command', "is missing", id="check-without-command"),
    pytest.param(
        "[[check]]\nname = 'c'\ncommand = 'ping'", 'check "c": command', "a list of strings", id="command-is-a-string"
    ),
    pytest.param(
        "[[check]]\nname = 'c'\ncommand = ['x']\ninterval = 0", 'check "c": interval', "above 0", id="interval-0"
    ),
    pytest.param(
        "[[check]]\nname = 'c'\ncommand = ['x']\ninterval = inf", 'check "c": interval', "86400", id="interval-inf"
    ),
    pytest.param(
        "[[check]]\nname = 'c'\ncommand = ['x']\ninterval = nan", 'check "c": interval', "86400", id="interval-nan"
    ),
    pytest.param("[[check]]\nname = 'c'\ncommand = ['x']\nfall = 0", 'check "c": fall', "from 1 to 1000", id="fall-0"),
    pytest.param(
        "[[check]]\nname = 'c'\ncommand = ['x']\ndemotion = 0", 'check "c": demotion', "from 1 to 255", id="demotion-0"
    ),
    pytest.param(
        "[[hook]]\nname = 'h'\ncommand = ['x']\non = ['Master']", 'hook "h": on[1]', '"MASTER"', id="hook-state"
    ),
    pytest.param(
        "[[hook]]\nname = 'h'\ncommand = ['x']\non = []", 'hook "h": on', "at least one", id="hook-without-state"
    ),
    pytest.param("[[peer]]\nname = 'fw1'", 'peer "fw1": name', "the name of this node", id="peer-is-this-node"),
    pytest.param(
        "[[peer]]\nname = 'fw2'\ncontrol = '10.0.0.1'", 'peer "fw2": control', "HOST:PORT", id="endpoint-without-port"
    ),
    pytest.param(
        "[[peer]]\nname = 'fw2'\ncontrol = 'a:0'", 'peer "fw2": control', "from 1 to 65535", id="endpoint-port"
    ),
    pytest.param("[states]", "states.listen", "is missing", id="states-without-listen"),
    pytest.param(
        f"[states]\nlisten = 'a:1'\nmax_states = {MAX_STATES}",
        "states.max_states",
        f"from 1 to {MAX_STATES - 1}",
        id="more-states-than-a-table-takes",
    ),
    pytest.param(
        "[states]\nlisten = 'a:1'\nignore = [{}]", "states.ignore[1]", "ignore everything", id="ignore-everything"
    ),
    pytest.param(
        "[states]\nlisten = 'a:1'\nignore = [{protocol = 'ipip'}]", "states.ignore[1].protocol", "tcp", id="protocol"
    ),
    pytest.param(
        "[states]\nlisten = 'a:1'\nignore = [{network = '10.0.0.1/8'}]",
        "states.ignore[1].network",
        "behind the prefix",
        id="net",
    ),
    pytest.param(
        "[states]\nlisten='a:1'\n[control]\nlisten='a:1'", "control.listen", "states.listen already", id="port-twice"
    ),
    pytest.param("[web]\nkey = 'k'", "web.certificate", "is missing beside key", id="web-key-alone"),
    pytest.param("[[section]]\nid = 's'", 'section "s": paths', "at least one file", id="section-without-paths"),
    pytest.param(
        "[[section]]\nid = 's'\npaths = ['etc']", 'section "s": paths[1]', "an absolute path", id="section-path"
    ),
    pytest.param("[[section]]\nid = 'vips'\napply = ['x']", 'section "vips": apply', "built in", id="section-vips"),
    pytest.param("[[service]]\nid = 's'", 'service "s": unit', "is missing", id="service-empty"),
    pytest.param("[[service]]\nid = 's'\nunit = 'x'", 'service "s": unit', "dnsmasq.service", id="service-unit"),
    pytest.param(
        "[[service]]\nid = 's'\nstart = ['x']", 'service "s": stop', "is missing beside start", id="service-start-alone"
    ),
    pytest.param(
        "[[service]]\nid = 's'\nunit = 'x.service'\nstop = ['x']", 'service "s": stop', "beside unit", id="service-both"
    ),
    pytest.param(
        "[[service]]\nid = 's'\nunit = 'x.service'\nrun_on = 'MASTER'\nvip = 'v'",
        'service "s": vip',
        'no [[vip]] named "v"',
        id="service-vip",
    ),
]


@pytest.mark.parametrize(("text", "key", "message"), BAD)
def test_one_mistake_is_one_problem_with_its_key(tmp_path: Path, text: str, key: str, message: str) -> None:
    named = text if "[node]" in text or text.startswith(("node", "vip = ")) else f"{text}\n{NODE}"
    found = problems(tmp_path, named)
    assert [(problem.file, problem.key) for problem in found if problem.key == key], found
    assert any(message in problem.message for problem in found if problem.key == key), found
    assert all("Traceback" not in problem.message and len(problem.message) < 400 for problem in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[node", "is not TOML"),
        (b"a = 1\na = 2", "is not TOML"),
        (b"[node]\nname = '\xff'", "line 2 is not UTF-8"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"#" * (5 << 20), "larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hacore.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist; write it, or name another with --settings"):
        load(tmp_path / "hacore.toml")


def test_every_mistake_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "hacore.toml.d").mkdir()
    (tmp_path / "hacore.toml.d" / "50-synced.toml").write_text("[carp]\npreempt = 1\n")
    text = (
        VIP.replace("vhid = 1", "vhid = 999").replace("2.1/24", "2.0/24")
        + "[carp]\nseal = 'prefer'\nrekey = 1\n[nodes]\n"
    )
    found = {(Path(problem.file).name, problem.key) for problem in problems(tmp_path, text)}
    assert found == {
        ("hacore.toml", 'vip "lan": vhid'),
        ("hacore.toml", 'vip "lan": addresses[1]'),
        ("hacore.toml", "carp.seal"),
        ("hacore.toml", "carp.rekey"),
        ("hacore.toml", "nodes"),
        ("50-synced.toml", "carp.preempt"),
    }


def test_a_later_file_replaces_tables_of_the_same_name_and_single_keys(tmp_path: Path) -> None:
    (tmp_path / "hacore.toml.d").mkdir()
    later = VIP.replace("2.1/24", "2.9/24") + "advskew = 100\n[carp]\npreempt = false\n"
    synced = tmp_path / "hacore.toml.d" / "50-synced.toml"
    synced.write_text(later)
    settings = load(written(tmp_path, NODE + VIP + SECOND + "[carp]\nrekey_time = 5\n"))
    assert [(vip.name, vip.advskew) for vip in settings.vips] == [("lan", 100), ("wan", 0)]
    assert (settings.carp.preempt, settings.carp.rekey_time) == (False, 5.0)
    assert settings.origins['vip "lan"'] == str(synced)
    assert settings.files == (settings.path, str(synced))


def test_a_relative_path_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"12345678901234567890\n")
    (tmp_path / "k").chmod(0o600)
    settings = load(written(tmp_path, NODE + VIP.replace('password = "secret"', 'password_file = "k"')))
    assert bytes(settings.vips[0].password) == b"12345678901234567890"
    assert [warning.key for warning in settings.warnings] == [
        'vip "lan": password_file'
    ]  # 20 bytes: no BSD tool takes them


def test_advskew_step_follows_advbase(tmp_path: Path) -> None:
    settings = load(written(tmp_path, NODE + VIP + "advbase = 0\n" + SECOND))
    assert [vip.advskew_step for vip in settings.vips] == [1, 100]


def test_a_readable_key_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("secret")
    (tmp_path / "k").chmod(0o644)
    settings = load(written(tmp_path, NODE + VIP.replace('password = "secret"', 'password_file = "k"')))
    assert ["chmod 600" in str(warning) for warning in settings.warnings] == [True]


def test_interfaces_have_to_be_there_and_carry_ethernet(tmp_path: Path) -> None:
    path = written(tmp_path, NODE + VIP + SECOND)
    (missing,) = examine(path, {"lo": False, "lan": True, "eth0": True}).problems
    assert missing.key == 'vip "wan": interface'
    assert missing.message == 'there is no interface "wan" on this machine; there are: eth0, lan'
    (tunnel,) = examine(path, {"lan": True, "wan": False}).problems
    assert tunnel.message == '"wan" carries no Ethernet frames, which CARP needs; usable are: lan'
    assert examine(path, {"lan": True, "wan": True}).problems == ()


def test_an_examination_knows_the_links_and_the_warnings_beside_the_problems(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("secret")
    (tmp_path / "k").chmod(0o644)
    text = NODE + VIP.replace('password = "secret"', 'password_file = "k"') + "[carp]\npreempt = 1\n"
    found = examine(written(tmp_path, text), {"eth0": True})
    assert found.settings is None
    assert {problem.key for problem in found.problems} == {"carp.preempt", 'vip "lan": interface'}
    assert [warning.key for warning in found.warnings] == ['vip "lan": password_file']


def test_directories_are_known_while_the_rest_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, "[node]\nruntime_dir = 'run'\n[carp]\npreempt = 1\n[[vip]]\nvhid = 0\n")
    assert load_directories(path) == (tmp_path / "run", Path("/var/lib/hacore"))
    with pytest.raises(SettingsError, match=r"node\.runtime_dir"):
        load_directories(written(tmp_path, "[node]\nruntime_dir = 5\n[carp]\npreempt = 1\n"))
    with pytest.raises(SettingsError, match="is not TOML"):
        load_directories(written(tmp_path, "[node\n"))


def test_what_a_table_holds_is_not_worked_out_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fields(kind: type[Struct], real: Callable[..., Any] = msgspec.structs.fields) -> Any:
        asked.append(kind)
        return real(kind)

    monkeypatch.setattr(settings_tables, "fields", fields)
    text = NODE + "".join(
        VIP.replace('name = "lan"', f'name = "v{number}"')
        .replace("vhid = 1", f"vhid = {number}")
        .replace("192.0.2.1", f"192.0.2.{number}")
        for number in range(1, 101)
    )
    assert len(load(written(tmp_path, text)).vips) == 100
    assert len(asked) == len(set(asked))
