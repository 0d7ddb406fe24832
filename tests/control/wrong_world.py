"""A node that is asked wrongly: its real worker in a thread, the certificates of everybody who may come, and a picture
of all that a request could change.

A family of cases is a function of the world that returns `Case`s; each is sent over a connection of its own.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import http.client
import itertools
import json
import os
import re
import socket
import ssl
import threading
import warnings
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hacore.control.refusals import SAME_INTERVAL, Refusals
from hacore.control.registry import Route
from tests.control.worker_pair import Played, free_port, until

T = TypeVar("T")
DAY = dt.timedelta(days=1)

#: Beside fw1, which may do everything: two that may do less, and one that pairing left and the settings do not name.
PEERS = """
[[peer]]
name = "fw3"
allow = []
[[peer]]
name = "fw4"
allow = ["status"]
"""
TRUSTED = ("fw1", "fw3", "fw4", "fw5")


@dataclass(frozen=True)
class Case:
    """A wrong request: who sends which bytes, and what has to be said to it, as a pattern for the message.

    `status` 0: TLS refuses, and `answer` is the alert that the asker sees; `says` is looked for in the history.
    """

    name: str
    request: bytes
    code: str
    says: str
    status: int = 400
    asker: str = "fw1"
    answer: str = ""
    tls: tuple[ssl.TLSVersion, ssl.TLSVersion] = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)
    plain: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back: an HTTP answer, or how the connection ended."""

    status: int
    body: bytes
    ended: str = ""


def request(
    method: str, target: str, body: bytes | object = b"", headers: dict[str, str] | None = None, *, length: bool = True
) -> bytes:
    """The bytes of a request that is well made as HTTP; `body` is bytes or becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Host": "fw2"} | ({"Content-Type": "application/json"} if data else {})
    lines |= {"Content-Length": str(len(data))} if length and data else {}
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + data


class World:
    """fw2 is asked; `shown(name)` is the certificate by which somebody asks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="worker")
        self.node = Played(directory / "fw2", "fw2", "BACKUP")
        self._clock = itertools.count(0.0, SAME_INTERVAL + 1)  # each refusal is a line of its own, however alike
        self._certificates()
        self.port = free_port()
        self._tick = 0.0

    def start(self) -> None:
        """As the supervisor starts it."""
        self.node.write(
            name="fw2", other="fw1", advskew=100, port=self.port, other_port=free_port(), more=PEERS + self.more()
        )
        self._thread.start()
        self.run(self.node.start())
        self.run(self._with_own_clock())
        self.routes: list[Route] = self.node.worker.server.peer_routes

    def more(self) -> str:
        """More settings."""
        return ""

    async def _with_own_clock(self) -> None:
        self.node.worker.refusals = Refusals(self.node.worker.record, lambda: next(self._clock))

    def stop(self) -> None:
        """The worker and its thread."""
        self.run(self.node.worker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """In the worker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    # Certificates

    def _certificates(self) -> None:
        tls = self.node.directory / "state/tls"
        tls.mkdir(parents=True)
        made = {name: self._make(name) for name in (*TRUSTED, "fw2")}
        made["expired"] = self._make("expired", begins=-30 * DAY, ends=-DAY)
        made["early"] = self._make("early", begins=DAY, ends=30 * DAY)
        (tls / "peers.pem").write_bytes(b"".join(made[name] for name in (*TRUSTED, "expired", "early")))
        for file in ("node.crt", "node.key"):
            (tls / file).write_bytes((self.directory / f"fw2.{file[-3:]}").read_bytes())
        self._make("stranger")
        self._make("namesake", subject="fw1")
        self._signed_by("fw1", "child")

    def _make(
        self, name: str, *, subject: str = "", begins: dt.timedelta = -DAY, ends: dt.timedelta = 30 * DAY,
        issuer: tuple[str, ec.EllipticCurvePrivateKey] | None = None,
    ) -> bytes:  # fmt: skip
        """Writes NAME.crt and NAME.key; a certificate that signs itself unless there is an issuer."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject or name)])
        signer = own if issuer is None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer[0])])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(own)
            .issuer_name(signer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject or name)]), critical=False)
            .sign(key if issuer is None else issuer[1], hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (self.directory / f"{name}.crt").write_bytes(pem)
        (self.directory / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pem

    def _signed_by(self, issuer: str, name: str) -> None:
        """A certificate that a trusted one's key signed: a peer's certificate makes no others."""
        key = serialization.load_pem_private_key((self.directory / f"{issuer}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._make(name, issuer=(issuer, key))

    # Asking

    def send(self, case: Case) -> Answer:
        """Over a connection of its own."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        try:
            if case.plain:
                return _received(raw, case.request)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # old versions, on purpose
                context.minimum_version, context.maximum_version = case.tls
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            if case.asker != "nobody":
                context.load_cert_chain(self.directory / f"{case.asker}.crt", self.directory / f"{case.asker}.key")
            with context.wrap_socket(raw) as connection:
                return _received(connection, case.request)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, b"", f"{type(error).__name__}: {error}")
        finally:
            raw.close()

    # What could have changed

    def picture(self) -> tuple[str, ...]:
        """Every file of the node with its rights and content, its settings, its VIPs, its orders to the supervisor."""
        worker = self.node.worker
        found = [f"{self.node.bus.states} {worker.states}", repr(worker.settings), repr(self.orders())]
        for path in sorted(self.node.directory.rglob("*")):
            about = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            target = os.readlink(path) if path.is_symlink() else ""
            found.append(f"{path} {about.st_mode:o} {about.st_uid} {about.st_mtime_ns} {target} {content}")
        return tuple(found)

    def orders(self) -> list[str]:
        """What the worker asked the supervisor to do."""
        return [command for command, _ in self.node.bus.requests if command != "status"]

    def refusals(self) -> list[tuple[str, str]]:
        """Code and text of each line in the history that tells of a refusal."""
        return [(str(fields["code"]), text) for kind, text, fields in list(self.node.events) if kind == "refused"]

    def faults(self) -> list[str]:
        """What the worker called a fault of its own."""
        return [text for kind, text, _ in list(self.node.events) if kind == "fault"]


def _received(connection: socket.socket, data: bytes) -> Answer:
    connection.sendall(data)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return Answer(answer.status, answer.read())


def problems(world: World, case: Case) -> Iterator[str]:
    """Sends it; yields what was not as it has to be."""
    before, events = world.picture(), len(world.node.events)
    answer = world.send(case)
    if case.status == 0:
        # The client's handshake may have ended before the server refused: the line comes a little later.
        world.run(until(lambda: len(world.node.events) > events))
        if not re.search(case.answer, answer.ended):
            yield f"ended with {answer.ended!r} (status {answer.status}), not {case.answer!r}"
    elif answer.status != case.status:
        yield f"status {answer.status} {answer.body[:300]!r} {answer.ended}, not {case.status}"
    else:
        error = json.loads(answer.body)["error"]
        if error["code"] != case.code or not re.search(case.says, error["message"]):
            yield f"was told {error}, not {case.code}: {case.says}"
    good = world.send(Case("well made", request("GET", "/v1/node"), "", "", 200))
    if good.status != 200:
        yield f"afterwards the worker does not answer: {good}"
    lines = world.refusals()[-(len(world.node.events) - events) or len(world.node.events) :]
    if len(world.node.events) != events + 1 or len(lines) != 1:
        yield f"the history has {world.node.events[events:]}, not one line"
    elif lines[0][0] != case.code or not re.search(case.says, lines[0][1]):
        yield f"the history says {lines[0]}, not {case.code}: {case.says}"
    changed = set(world.picture()) ^ set(before)
    if changed:
        yield f"changed: {sorted(changed)}"
