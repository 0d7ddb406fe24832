"""`hacore capture`: real captures of ucarp, made ones of every kind, and an interface of the real kernel."""

from __future__ import annotations

import json
import socket
import struct
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore._fast.advert import AdvertKey, advert_frame
from hacore.cli.capture_adverts import UNCHECKED, VALID, Reader
from tests.cli.conftest import Run
from tests.namespaces import Host, Network

VECTORS = Path(__file__).parents[1] / "vectors"
KEY = AdvertKey("secret", 1, ["192.0.2.1", "2001:db8::1"])
OTHER_KEY = AdvertKey("other", 1, ["192.0.2.1", "2001:db8::1"])
KEY_OPTIONS = ["--vhid", "1", "--password", "secret", "--address", "192.0.2.1/24", "--address", "2001:db8::1"]
MAC = bytes.fromhex("00005e000101")


def frame(
    source: str, advskew: int = 0, *, advbase: int = 1, counter: int = 1, ttl: int = 255, key: AdvertKey = KEY
) -> bytes:
    own = ip_address(source)
    group, mac = ("224.0.0.18", "01005e000012") if own.version == 4 else ("ff02::12", "333300000012")
    payload = key.build(advbase, advskew, counter)
    return advert_frame(MAC, bytes.fromhex(mac), own.packed, ip_address(group).packed, payload, ttl=ttl)


def pcap(path: Path, frames: list[tuple[float, bytes]], linktype: int = 1, magic: int = 0xA1B2C3D4) -> Path:
    unit = 1e9 if magic == 0xA1B23C4D else 1e6
    data = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for when, content in frames:
        fraction = round(when % 1 * unit)
        data += struct.pack("<IIII", int(when), fraction, len(content), len(content)) + content
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "password", "vhid", "address", "count"),
    [
        ("ucarp-t1", "secret", 1, "10.66.0.100", 6),
        ("ucarp-t2", "correcthorsebatterx", 42, "192.168.77.254", 2),
        ("ucarp-t3", "foobar", 7, "10.66.0.200", 9),
    ],
)
def test_captures_of_ucarp(run: Run, name: str, password: str, vhid: int, address: str, count: int) -> None:
    file = str(VECTORS / f"{name}.pcap")
    key = ["--vhid", str(vhid), "--address", address]
    result = run("capture", file, *key, "--password", password)
    assert result.exit_code == 0
    assert f"{count} adverts in " in result.output
    assert f"vhid {vhid}  10.66.0.1\n" in result.output
    assert "    verified\n" in result.output
    assert "10.66.0.1 is MASTER with " in result.output
    assert "never two masters of one VHID at once" in result.output
    wrong = run("capture", file, *key, "--password", password + "x")
    assert "does not verify: another password, or another address list" in wrong.output
    assert "no advert took part in an election" in wrong.output


def test_keys_come_from_the_settings(run: Run, tmp_path: Path) -> None:
    file = pcap(tmp_path / "c.pcap", [(0, frame("192.0.2.11"))])
    settings = (tmp_path / "hacore.toml").read_text().replace('"192.0.2.1/24"', '"192.0.2.1/24", "2001:db8::1/64"')
    (tmp_path / "hacore.toml").write_text(settings)
    assert "    verified\n" in run("capture", str(file)).output
    assert "    verified\n" in run("capture", str(file), "-c", str(tmp_path / "hacore.toml")).output


def test_a_password_file(run: Run, tmp_path: Path) -> None:
    file = pcap(tmp_path / "c.pcap", [(0, frame("192.0.2.11"))])
    (tmp_path / "k").write_text("secret\n")
    key = ["--vhid", "1", "--address", "192.0.2.1", "--address", "2001:db8::1", "--password-file", str(tmp_path / "k")]
    assert "    verified\n" in run("capture", str(file), *key).output


def test_json_tells_all(run: Run, tmp_path: Path) -> None:
    frames = [(float(t), frame("192.0.2.11", counter=t)) for t in range(4)]
    frames += [(t + 0.5, frame("192.0.2.12", 100, counter=t)) for t in range(1, 3)]
    frames += [(2.6, frame("192.0.2.13", key=OTHER_KEY)), (2.7, frame("192.0.2.14", ttl=64)), (2.8, b"\0" * 60)]
    frames += [(2.9, frame("2001:db8::11"))]
    result = run("capture", str(pcap(tmp_path / "c.pcap", frames)), "--json", *KEY_OPTIONS)
    whole = json.loads(result.output)
    verdicts = {one["source"]: one["verdict"] for one in whole["adverts"]}
    assert verdicts == {
        "192.0.2.11": "valid",
        "192.0.2.12": "valid",
        "192.0.2.13": "authentication",
        "192.0.2.14": "ttl",
        "2001:db8::11": "valid",
    }
    (overlap,) = whole["overlaps"]
    assert (overlap["begin"], overlap["end"]) == (1.5, 2.5)
    assert {one["source"] for one in whole["masters"]} == {"192.0.2.11", "192.0.2.12", "2001:db8::11"}


def test_a_narrow_terminal(run: Run, tmp_path: Path) -> None:
    frames = [(float(t), frame("192.0.2.11", counter=t)) for t in range(4)]
    frames += [(t + 0.5, frame("192.0.2.12", 100, counter=t)) for t in range(1, 3)]
    result = run("capture", str(pcap(tmp_path / "c.pcap", frames)), *KEY_OPTIONS, width=60)
    assert max(len(line) for line in result.stdout.splitlines()) <= 60
    assert "! two masters of vhid 1 (IPv4) at once for 1.0 s" in result.output


RAW = frame("192.0.2.11")[14:]
COOKED = struct.pack(">HHH8sH", 1, 1, 6, MAC + b"\0\0", 0x0800) + RAW
COOKED2 = struct.pack(">HHIHBB8s", 0x0800, 0, 1, 1, 1, 6, MAC + b"\0\0") + RAW


@pytest.mark.parametrize(
    ("linktype", "content"), [(101, RAW), (228, RAW), (113, COOKED), (276, COOKED2), (1, frame("192.0.2.11"))]
)
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_link_types_and_clocks(run: Run, tmp_path: Path, linktype: int, content: bytes, magic: int) -> None:
    file = pcap(tmp_path / "c.pcap", [(5.25, content)], linktype, magic)
    (advert,) = json.loads(run("capture", str(file), "--json", *KEY_OPTIONS).output)["adverts"]
    assert (advert["time"], advert["verdict"], advert["source"]) == (5.25, "valid", "192.0.2.11")


def test_pcapng(run: Run, tmp_path: Path) -> None:
    content = frame("192.0.2.11")
    padded = content + b"\0" * (-len(content) % 4)
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    interface = struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
    micros = 5_250_000
    length = 32 + len(padded)
    packet = struct.pack("<IIIIIII", 6, length, 0, micros >> 32, micros & 0xFFFFFFFF, len(content), len(content))
    (tmp_path / "c.pcapng").write_bytes(section + interface + packet + padded + struct.pack("<I", length))
    (advert,) = json.loads(run("capture", str(tmp_path / "c.pcapng"), "--json", *KEY_OPTIONS).output)["adverts"]
    assert (advert["time"], advert["verdict"]) == (5.25, "valid")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", 65, "is not a capture"),
        (b"root:x:0:0:root:/root:/bin/bash\n", 65, "is not a capture"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 105) + bytes(16), 65, "link type 105"),
    ],
)
def test_what_is_no_capture(run: Run, tmp_path: Path, content: bytes, code: int, message: str) -> None:
    (tmp_path / "c.pcap").write_bytes(content)
    result = run("capture", str(tmp_path / "c.pcap"), *KEY_OPTIONS)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_capture_that_ends_within_a_packet(run: Run, tmp_path: Path) -> None:
    file = pcap(tmp_path / "c.pcap", [(float(t), frame("192.0.2.11", counter=t)) for t in range(3)])
    file.write_bytes(file.read_bytes()[:-10])
    result = run("capture", str(file), *KEY_OPTIONS)
    assert result.exit_code == 0
    assert "2 adverts in 1.0 s" in result.output
    assert "ends within a packet" in result.stderr


def test_a_file_that_is_not_there(run: Run) -> None:
    result = run("capture", "/nowhere.pcap", *KEY_OPTIONS)
    assert result.exit_code == 71
    assert "/nowhere.pcap cannot be read: No such file or directory" in result.stderr


def test_an_interface_that_is_not_there(run: Run) -> None:
    result = run("capture", "-i", "nowhere0", *KEY_OPTIONS)
    assert result.exit_code == 71
    assert "cannot listen on nowhere0" in result.stderr
    assert "there are: " in result.stderr


@given(st.binary(max_size=120))
def test_any_frame_is_an_advert_or_a_count(content: bytes) -> None:
    reader = Reader([KEY])
    head = frame("192.0.2.11")
    for raw in (content, head[:14] + content, head[:34] + content, head[:38] + content):
        reader.read(0.0, raw)


def test_verdicts() -> None:
    reader, keyless = Reader([OTHER_KEY, KEY]), Reader([])
    good = frame("192.0.2.11")
    broken = good[:-1] + bytes([good[-1] ^ 1])

    def verdict(which: Reader, raw: bytes) -> str:
        advert = which.read(0.0, raw)
        assert advert is not None
        return advert.verdict

    assert verdict(reader, good) == VALID
    assert verdict(keyless, good) == UNCHECKED
    assert verdict(reader, broken) == verdict(keyless, broken) == "checksum"
    assert reader.read(0.0, good[:60]) is None
    assert sum(reader.unreadable.values()) == 1


def test_an_interface_live(run: Run) -> None:
    """Both what arrives and what this machine sends itself is seen."""
    stop = threading.Event()

    def send(host: Host, interface: str, content: bytes) -> None:
        with host.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((interface, 0))
            while not stop.wait(0.005):
                sender.send(content)

    with Network() as network:
        fw, peer = network.host("fw"), network.host("peer")
        network.cable(fw, "lan", peer, "lan")
        threads = [
            threading.Thread(target=send, args=(fw, "lan", frame("192.0.2.12", 2, advbase=0))),
            threading.Thread(target=send, args=(peer, "lan", frame("192.0.2.11", 1, advbase=0))),
        ]
        for thread in threads:
            thread.start()
        try:
            with fw.entered():
                result = run("capture", "--interface", "lan", "--seconds", "0.5", *KEY_OPTIONS)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert result.exit_code == 0, result.output
    assert "192.0.2.11 is MASTER with 0/1" in result.output
    assert "192.0.2.12 is MASTER with 0/2" in result.output
    assert "two masters of vhid 1 (IPv4) at once" in result.output
