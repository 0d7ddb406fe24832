"""From frames to adverts with a verdict: which of the checks that a receiver makes each of them passes."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from hacore._fast.advert import Advertisement, AdvertKey, parse_frame
from hacore.carp.terms import CARP_TTL
from hacore.errors import WireError

VALID = "valid"  # it verifies with one of the keys
UNCHECKED = "unchecked"  # everything else is right, but there is no key for its VHID
#: What a receiver drops, in the kernel's words, and in plain ones.
FAULTS = {
    "short": "shorter than an advert (VRRP?)",
    "checksum": "wrong checksum",
    "vhid": "VHID 0",
    "version": "not CARP version 2 (VRRP?)",
    "ttl": "TTL below 255: it passed a router",
    "authentication": "does not verify: another password, or another address list",
}


class Advert(Struct, frozen=True, kw_only=True):
    """One advert. `time` is unix seconds, `advbase` in seconds, `advskew` in 1/256 s; `verdict` as above."""

    time: float
    family: int
    source: str
    source_mac: str
    destination: str
    vhid: int
    advbase: int
    advskew: int
    demotion: int
    verdict: str
    form: str = ""

    @property
    def counts(self) -> bool:
        """Whether it takes part in an election, as far as can be told."""
        return self.verdict in (VALID, UNCHECKED)

    @property
    def bows_out(self) -> bool:
        """Whether its sender says that it leaves."""
        return self.advbase == 255 and self.advskew == 255


class Reader:
    """Reads adverts with the keys given; counts what is none, by the rung of the ladder that it fell from."""

    def __init__(self, keys: Iterable[AdvertKey]) -> None:
        self.keys: dict[int, list[AdvertKey]] = {}
        for key in keys:
            self.keys.setdefault(key.vhid, []).append(key)
        self.unreadable: Counter[str] = Counter()
        self.adverts = 0

    def read(self, time: float, raw: bytes) -> Advert | None:
        """The advert in an Ethernet frame; None (and a count, for protocol 112) where there is none."""
        try:
            frame = parse_frame(raw)
            advert = Advertisement.from_payload(frame.payload)
        except WireError as error:
            if error.rung not in ("frame", "protocol"):
                self.unreadable[error.rung] += 1
            return None
        destination = _text(frame.destination)
        verdict, form = self._verdict(frame.payload, advert.vhid)
        multicast = frame.destination[0] == 0xFF or frame.destination[0] >> 4 == 0xE
        if multicast and frame.ttl != CARP_TTL and verdict in (VALID, UNCHECKED, "authentication"):
            verdict = "ttl"
        self.adverts += 1
        return Advert(
            time=time,
            family=frame.family,
            source=_text(frame.source),
            source_mac=frame.source_mac.hex(":"),
            destination=destination,
            vhid=advert.vhid,
            advbase=advert.advbase,
            advskew=advert.advskew,
            demotion=advert.demotion,
            verdict=verdict,
            form=form,
        )

    def _verdict(self, payload: bytes, vhid: int) -> tuple[str, str]:
        if vhid == 0:
            return "vhid", ""
        keys = self.keys.get(vhid)
        failure = ""
        # Any key tells of what comes before the HMAC.
        for key in keys or [AdvertKey(b"", vhid, [])]:
            try:
                return VALID, key.verify(payload).form
            except WireError as error:
                failure = error.rung
        return (UNCHECKED if failure == "authentication" and keys is None else failure), ""


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
