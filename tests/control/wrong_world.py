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
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hacore.control.certificates import Identity, Place, make, save
from hacore.control.refusals import SAME_INTERVAL, Refusals
from hacore.control.registry import Route
from hacore.control.trust import TrustStore
from tests.control.worker_pair import Played, free_port, until

T = TypeVar("T")
INVITATIONS = "invitations.json"  # counts the attempts
DIGESTS = "digests"  # of files that were read: a cache
YEAR = 366 * 86400.0

#: Beside fw1, which may do everything: two that may do less, and one that pairing left and the settings do not name.
PEERS = """
[[peer]]
name = "fw3"
allow = []
[[peer]]
name = "fw4"
allow = ["status"]
"""
#: A folder that may be pushed, with a link in it; one service, and one that belongs to whoever is MASTER.
PARTS = """
[[section]]
id = "web"
paths = ["{web}"]
[[service]]
id = "one"
start = ["false"]
stop = ["false"]
status = ["true"]
[[service]]
id = "line"
start = ["true"]
stop = ["true"]
status = ["false"]
run_on = "MASTER"
vip = "lan"
"""
TRUSTED = ("fw1", "fw3", "fw4", "fw5")


@dataclass(frozen=True)
class Case:
    """A wrong request: who sends which bytes, and what has to be said to it, as a pattern for the message.

    A `request` that is a function first brings the node to where the bytes that it returns are wrong.

    `status` 0: TLS refuses, and `answer` is the alert that the asker sees; `says` is looked for in the history.
    """

    name: str
    request: bytes | Callable[[], bytes]
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
    """fw2 is asked, as long as the context lasts; `shown(name)` is the certificate by which somebody asks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="worker")
        self.node = Played(directory / "fw2", "fw2", "BACKUP")
        self._clock = itertools.count(0.0, SAME_INTERVAL + 1)  # each refusal is a line of its own, however alike
        self._certificates()
        self.port = free_port()
        self.web = self.node.directory / "files/web"

    def __enter__(self) -> Self:
        """Start the worker as the supervisor does."""
        self.node.write(
            name="fw2", other="fw1", advskew=100, port=self.port, other_port=free_port(),
            more=PEERS + PARTS.format(web=self.web),
        )  # fmt: skip
        (self.web / "pages").mkdir(parents=True)
        (self.web / "index.html").write_text("old")
        (self.web / "latest").symlink_to("pages")
        (self.web.parent / "secret").write_text("not for others")
        self._thread.start()
        self.run(self.node.start())
        self.run(self._with_own_clock())
        self.routes: list[Route] = self.node.worker.server.peer_routes
        return self

    async def _with_own_clock(self) -> None:
        self.node.worker.refusals = Refusals(self.node.worker.record, lambda: next(self._clock))

    def __exit__(self, *_: object) -> None:
        """End the worker and its thread."""
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
        now = time.time()
        made = {name: make(name, now) for name in (*TRUSTED, "fw2", "fw6", "stranger")}
        made |= {"expired": make("expired", now - 10 * YEAR), "early": make("early", now + 1 * YEAR)}
        for name, identity in (*made.items(), ("namesake", make("fw1", now))):
            save(identity, Place(self.directory / f"{name}.crt", self.directory / f"{name}.key"))
        save(made["fw2"], Place(tls / "node.crt", tls / "node.key"))
        store = TrustStore(tls / "peers.pem")
        for name in (*TRUSTED, "expired", "early", "fw6"):
            store.add(made[name].certificate)
        store.revoke("fw6")
        self._signed_by(made["fw1"], "child")

    def _signed_by(self, issuer: Identity, name: str) -> None:
        """A certificate that a trusted one's key signed: a peer's certificate makes no others."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer.certificate.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(_private(issuer), hashes.SHA256())
        )
        pem, own = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (self.directory / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
        (self.directory / f"{name}.key").write_bytes(key.private_bytes(pem, own, serialization.NoEncryption()))

    # Asking

    def send(self, case: Case) -> Answer:
        """Over a connection of its own."""
        assert isinstance(case.request, bytes)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=3)
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

    def get(self, path: str) -> Any:
        """What fw1 is answered."""
        answer = self.send(Case("", request("GET", path), "", "", 200))
        assert answer.status == 200, answer
        return json.loads(answer.body)

    # What could have changed

    def picture(self) -> tuple[str, ...]:
        """Every file of the node with its rights and content, its settings, its VIPs, its orders to the supervisor."""
        worker = self.node.worker
        found = [f"{self.node.bus.states} {worker.states}", repr(worker.settings), repr(self.orders())]
        for path in sorted(self.node.directory.rglob("*")):
            if path.name in (INVITATIONS, DIGESTS):
                continue
            about = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            target = os.readlink(path) if path.is_symlink() else ""
            written = about.st_mtime_ns if path.is_file() else ""
            found.append(f"{path} {about.st_mode:o} {about.st_uid} {written} {target} {content}")
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


def _private(identity: Identity) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(identity.key_pem(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _received(connection: socket.socket, data: bytes) -> Answer:
    connection.sendall(data)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return Answer(answer.status, answer.read())


def problems(world: World, case: Case) -> Iterator[str]:
    """Sends it; yields what was not as it has to be."""
    case = replace(case, request=case.request() if callable(case.request) else case.request)
    before, events = world.picture(), len(world.node.events)
    answer = world.send(case)
    if case.status == 0:
        # The client's handshake may have ended before the server refused: the line comes a little later.
        world.run(until(lambda: len(world.node.events) > events, 3))
        if not re.search(case.answer, answer.ended):
            yield f"ended with {answer.ended!r} (status {answer.status}), not {case.answer!r}"
    elif answer.status != case.status:
        yield f"status {answer.status} {answer.body[:300]!r} {answer.ended}, not {case.status}"
    else:
        error = json.loads(answer.body)["error"]
        if not re.fullmatch(case.code, error["code"]) or not re.search(case.says, error["message"]):
            yield f"was told {error}, not {case.code}: {case.says}"
    lines = world.refusals()[-(len(world.node.events) - events) or len(world.node.events) :]
    if len(world.node.events) != events + 1 or len(lines) != 1:
        yield f"the history has {world.node.events[events:]}, not one line"
    elif not re.fullmatch(case.code, lines[0][0]) or not re.search(case.says, lines[0][1]):
        yield f"the history says {lines[0]}, not {case.code}: {case.says}"
    changed = set(world.picture()) ^ set(before)
    if changed:
        yield f"changed: {sorted(changed)}"
