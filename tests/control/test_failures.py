"""Every way in which a peer cannot be asked has a text of its own, and an exit code; each is brought about here."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hacore import __version__
from hacore.control import client
from hacore.control.certificates import Identity, Place, make, save
from hacore.control.client import PeerClient
from hacore.control.config import Configuration
from hacore.control.problems import EXIT_CODES, ApiError
from hacore.control.trust import TrustStore
from hacore.node.config_node import PushRequest
from hacore.node.settings_values import Endpoint
from tests.control.worker_pair import Played, free_port, pair
from tests.namespaces import Network

YEAR = 366 * 86400.0


class Scene:
    """fw1 asks fw2: by its own client, or by one that differs from it in what is given."""

    def __init__(self, directory: Path, one: Played, two: Played) -> None:
        self.directory, self.one, self.two = directory, one, two

    async def refusal(self, asked: PeerClient | None = None, path: str = "/status") -> ApiError:
        asked = asked or self.one.worker.peer("fw2")
        with pytest.raises(ApiError) as caught:
            await asked.ask("GET", path, response=object, timeout=2.0)
        await asked.close()
        return caught.value

    def client(self, *, place: Endpoint | None = None, own: Identity | None = None) -> PeerClient:
        usual = self.one.worker.peer("fw2")
        files = Place(self.directory / "own.crt", self.directory / "own.key")
        if own is not None:
            save(own, files)
        else:
            tls = self.directory / "fw1/state/tls"
            files = Place(tls / "node.crt", tls / "node.key")
        return PeerClient("fw2", place or usual.place, files, usual.trusted)

    def store(self, node: Played) -> TrustStore:
        return TrustStore(node.directory / "state/tls/peers.pem")

    async def show(self, identity: Identity, *, trusted: bool) -> None:
        """fw2 has this certificate from now on."""
        tls = self.two.directory / "state/tls"
        save(identity, Place(tls / "node.crt", tls / "node.key"))
        if trusted:
            self.store(self.one).keep_only(identity.certificate)
            await self.one.worker.trust_changed()
        await self.two.worker.trust_changed()


@asynccontextmanager
async def listener(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Endpoint]:
    """Something else that listens where the peer should."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint(host="127.0.0.1", port=server.sockets[0].getsockname()[1])


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" * 10)
    await writer.drain()
    writer.close()


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def name_not_found(scene: Scene) -> ApiError:
    return await scene.refusal(scene.client(place=Endpoint(host="no-such-node.invalid", port=8117)))


async def refused(scene: Scene) -> ApiError:
    return await scene.refusal(scene.client(place=Endpoint(host="127.0.0.1", port=free_port())))


async def timed_out(scene: Scene) -> ApiError:
    async with listener(silent) as place:
        return await scene.refusal(scene.client(place=place))


async def unreachable(scene: Scene) -> ApiError:
    with Network() as network, network.host("alone").entered():  # which has no route to anybody
        return await scene.refusal(scene.client(place=Endpoint(host="192.0.2.1", port=8117)))


async def no_tls(scene: Scene) -> ApiError:
    async with listener(plain) as place:
        return await scene.refusal(scene.client(place=place))


async def connection_lost(scene: Scene) -> ApiError:
    async with listener(hanging_up) as place:
        return await scene.refusal(scene.client(place=place))


async def not_paired(scene: Scene) -> ApiError:
    scene.store(scene.one).revoke("fw2")
    await scene.one.worker.trust_changed()
    return await scene.refusal()


async def another_node_answers(scene: Scene) -> ApiError:
    await scene.show(make("fw2", time.time()), trusted=False)
    return await scene.refusal()


async def not_known_there(scene: Scene) -> ApiError:
    return await scene.refusal(scene.client(own=make("fw1", time.time())))


async def its_certificate_has_expired(scene: Scene) -> ApiError:
    await scene.show(make("fw2", time.time() - 10 * YEAR), trusted=True)
    return await scene.refusal()


async def our_certificate_has_expired(scene: Scene) -> ApiError:
    old = make("fw1", time.time() - 10 * YEAR)
    scene.store(scene.two).keep_only(old.certificate)
    await scene.two.worker.trust_changed()
    return await scene.refusal(scene.client(own=old))


async def revoked(scene: Scene) -> ApiError:
    scene.store(scene.two).revoke("fw1")
    await scene.two.worker.trust_changed()
    return await scene.refusal()


async def version(scene: Scene) -> ApiError:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "API_VERSION", 2)
        return await scene.refusal()


async def not_allowed(scene: Scene) -> ApiError:
    text = scene.two.path.read_text().replace('name = "fw1"', 'name = "fw1"\nallow = ["services"]')
    scene.two.path.write_text(text)
    await scene.two.worker.reload()
    return await scene.refusal()


async def is_busy(scene: Scene) -> ApiError:
    node = scene.two.worker.part(Configuration).node
    node.claim("fw9 pushes web")
    with pytest.raises(ApiError) as caught:
        await scene.one.worker.peer("fw2").ask(
            "POST", "/push", PushRequest(sender="fw1", version=__version__, sections=[]), response=object
        )
    node.release()
    return caught.value


#: What is done to them; the code and what the text has to say; what it may not say is that of any other.
CLASSES: list[tuple[Callable[[Scene], Awaitable[ApiError]], str, str]] = [
    (name_not_found, "name-not-found", "the name no-such-node.invalid was not found"),
    (refused, "refused", "the connection was refused"),
    (timed_out, "timed-out", "no answer in time"),
    (unreachable, "unreachable", "(?i)network is unreachable"),
    (no_tls, "tls", "no TLS"),
    (connection_lost, "connection-lost", "the connection was lost|closed"),
    (not_paired, "certificate-unknown", "this node is not paired with it"),
    (another_node_answers, "certificate-unknown", "another certificate than the one this node was paired with"),
    (not_known_there, "certificate-unknown", "does not trust our certificate"),
    (its_certificate_has_expired, "certificate-expired", "its certificate has expired"),
    (our_certificate_has_expired, "certificate-expired", "our certificate has expired"),
    (revoked, "certificate-revoked", "does not trust this certificate any more"),
    (version, "version", "with version 1 of the node API, not hacore"),
    (not_allowed, "not-allowed", 'does not give fw1 the right "status"'),
    (is_busy, "busy", "fw9 pushes web"),
]


@pytest.mark.parametrize(("bring", "code", "text"), CLASSES, ids=[bring.__name__ for bring, _, _ in CLASSES])
def test_each_has_its_own_text(
    tmp_path: Path, bring: Callable[[Scene], Awaitable[ApiError]], code: str, text: str
) -> None:
    async def run() -> ApiError:
        async with pair(tmp_path) as (one, two):
            return await bring(Scene(tmp_path, one, two))

    error = asyncio.run(run())
    assert error.code == code, error
    assert re.search(text, error.message), error
    assert "fw2" in error.message
    assert error.exit_code == EXIT_CODES[error.code] != 1
    others = [other for _, _, other in CLASSES if other != text and re.search(other, error.message)]
    assert not others
