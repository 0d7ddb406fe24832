"""One virtual router: a VHID on an interface, IPv4 and IPv6 together. A machine without clock and socket.

The state follows `table.py`; this file holds the timers, the keys and the leave. Times are seconds of the caller's
clock.
"""

from __future__ import annotations

import ipaddress
import math
from typing import NamedTuple

import msgspec

from hacore._fast.advert import Advertisement, AdvertKey
from hacore.carp.announce import AFTER_BOW_OUT, Announcements, after_silence
from hacore.carp.counters import Counters
from hacore.carp.events import AnyEvent, Noticed, Transition
from hacore.carp.heard import Heard, address_text
from hacore.carp.table import Situation, judge, next_outcome
from hacore.carp.terms import (
    DEAD_RATIO,
    State,
    advert_interval,
    effective_advskew,
    gate_timeout,
    master_down_interval,
)

SETTLE = 0.2  # after INIT a BACKUP listens at least this long: ports and memberships take a moment to carry frames
LEAVE_LIMIT_FAST = 0.05  # how long a leaving MASTER waits for its successor: with advbase 0
LEAVE_LIMIT = 1.0  # and otherwise
BOW_OUT_REPEAT = 0.1  # the longest time between two bow-outs of one leave: one may be lost
MAX_OLD_KEYS = 2  # each is one more advertisement an interval
REPRIEVE_SHARE = 0.5  # of an interval: a master-down timer handled this late says that this node did not run


class KeyMaterial(msgspec.Struct, frozen=True):
    """What an HMAC is made from: a password and bare addresses. `remaining` seconds it is still sent and accepted."""

    password: bytes
    addresses: frozenset[str]
    remaining: float = 0.0

    def __repr__(self) -> str:
        return f"KeyMaterial({sorted(self.addresses)})"

    def same(self, other: KeyMaterial) -> bool:
        """Whether advertisements of the one authenticate at the other."""
        return self.password == other.password and self.addresses == other.addresses


class OldKey(NamedTuple):
    """A key of earlier settings, sent and accepted until then."""

    material: KeyMaterial
    key: AdvertKey
    until: float


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the administrator says of one virtual router; `addresses` carry their prefix length."""

    name: str
    interface: str
    vhid: int
    advbase: int
    advskew: int
    addresses: tuple[str, ...]
    password: bytes
    virtual_mac: bool = True
    peer: str = ""
    peer6: str = ""
    previous: tuple[KeyMaterial, ...] = ()  # of settings that changed a while ago, perhaps before this start

    def __repr__(self) -> str:
        return f"RouterSettings({self.name!r}, {self.interface!r}, vhid={self.vhid})"

    @property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both, from the addresses."""
        return tuple(sorted({ipaddress.ip_interface(address).version for address in self.addresses}))

    @property
    def unicast_peers(self) -> dict[int, str]:
        """The unicast peer of each family that has one."""
        return {family: peer for family, peer in ((4, self.peer), (6, self.peer6)) if peer}

    @property
    def key_material(self) -> KeyMaterial:
        """What its advertisements are made and verified with."""
        return KeyMaterial(self.password, frozenset(address.split("/")[0] for address in self.addresses))

    def make_key(self, material: KeyMaterial | None = None) -> AdvertKey:
        """The key of its own material, or of older one."""
        material = material or self.key_material
        return AdvertKey(material.password, self.vhid, sorted(material.addresses))


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """The interface as the election sees it: its link, its MAC and the addresses that advertisements are sent from."""

    up: bool
    mac: bytes = bytes(6)
    source4: bytes = bytes(4)
    source6: bytes = bytes(16)

    def source(self, family: int) -> bytes:
        """The address that advertisements of this family come from; zeros where there is none."""
        return self.source4 if family == 4 else self.source6


class VirtualRouter:
    """A VHID on an interface. The owner tells it what happens and takes what is due."""

    def __init__(self, settings: RouterSettings, counter: int, journal: list[AnyEvent]) -> None:
        self.settings = settings
        self.families = settings.families
        self.unicast_peers = settings.unicast_peers
        self.key = settings.make_key()
        self.old_keys: list[OldKey] = []
        self.counter = counter
        self.counters = Counters()
        self.port: Port | None = None
        self.state = State.INIT
        self.since = 0.0
        self.reason = "starting"
        self.enabled = True
        self.heard: Heard | None = None
        self.suspect = False  # this node was stalled: another MASTER may have taken over
        self.announcements = Announcements()
        self.advert_due = False
        self._journal = journal
        self._next_advert: float | None = None
        self._master_down: dict[int, float] = {}
        self._reprieved = False  # since the MASTER was heard last
        self._leave_for: Situation | None = None
        self._leave_until = 0.0
        self.successor_heard = False
        self._send_errors = 0
        self._send_successes = 0
        self.send_failing = False

    # What it is

    @property
    def interval(self) -> float:
        """Between two advertisements; never changed by demotion."""
        return advert_interval(self.settings.advbase, self.settings.advskew)

    @property
    def dead_time(self) -> float:
        """How long a BACKUP of the same settings waits for this node."""
        return master_down_interval(self.settings.advbase, self.settings.advskew, None)

    @property
    def leaving(self) -> bool:
        """Whether it has bowed out and still forwards."""
        return self._leave_for is not None

    @property
    def leave_expired_at(self) -> float:
        """When a leave ends though no successor was heard."""
        return self._leave_until

    @property
    def keys(self) -> list[AdvertKey]:
        """The current key first, then those that a change of settings keeps for a while."""
        return [self.key, *(old.key for old in self.old_keys)]

    def effective_advskew(self, demotion: int) -> int:
        """The advskew that is carried while the node is demoted by this much."""
        return effective_advskew(self.settings.advskew, demotion)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` has something to do."""
        at = math.inf
        if self.state is State.MASTER:
            if self._next_advert is not None:
                at = self._next_advert
            if (announcement := self.announcements.next_time()) is not None:
                at = min(at, announcement)
            if self.leaving:
                at = min(at, self._leave_until)
        elif self.state is State.BACKUP:
            at = min(self._master_down.values(), default=at)
        for old in self.old_keys:
            at = min(at, old.until)
        return at if at < math.inf else None

    # What happens to it

    def apply(self, situation: Situation, now: float, master: bytes = b"") -> bool:
        """Let the table decide; returns whether the state changed. `master` is whose advertisement led to it."""
        outcome = next_outcome(self.state, situation)
        if outcome is None:
            return False
        old, self.state, self.since, self.reason = self.state, outcome.state, now, outcome.reason
        self.counters.ostates += 1
        self._leave_for, self.successor_heard, self.suspect = None, False, False
        self.advert_due = False
        self._next_advert = None
        self.announcements.clear()
        self._master_down.clear()
        if outcome.state is State.MASTER:
            self._enter_master(situation, now)
        elif outcome.state is State.BACKUP:
            self._listen(now, SETTLE if old is State.INIT else 0.0)
        else:
            self.heard = None
            # The link went, and the sends failed for it: nobody in BACKUP or INIT could ever send the proof of the end.
            self._send_errors, self._send_successes, self.send_failing = 0, 0, False
        self._journal.append(
            Transition(
                at=now,
                vip=self.settings.name,
                interface=self.settings.interface,
                vhid=self.settings.vhid,
                old=old,
                new=outcome.state,
                reason=outcome.reason,
                master=address_text(master),
            )
        )
        return True

    def _enter_master(self, situation: Situation, now: float) -> None:
        if situation is Situation.HEARD_SLOWER:
            self.counters.preempt += 1
        self.advert_due = True
        self._next_advert = now + self.interval
        self.announcements.add(now, [0.0])
        if situation is Situation.HEARD_BOW_OUT:
            self.announcements.add(now, AFTER_BOW_OUT)
        else:
            silent = master_down_interval(self.settings.advbase, self.settings.advskew, self._measured())
            self.announcements.add(now, after_silence(gate_timeout(silent)))

    def _listen(self, now: float, at_least: float = 0.0) -> None:
        for family in self.families:
            self._arm_master_down(family, now, at_least)

    def _arm_master_down(self, family: int, now: float, at_least: float = 0.0) -> None:
        interval = master_down_interval(self.settings.advbase, self.settings.advskew, self._measured())
        self._master_down[family] = now + max(interval, at_least)
        self._reprieved = False

    def _measured(self) -> float | None:
        return self.heard.interval if self.heard else None

    def receive(
        self,
        advert: Advertisement,
        key: AdvertKey,
        family: int,
        source: bytes,
        now: float,
        *,
        preempt: bool,
        demotion: int,
    ) -> None:
        """An advertisement of another node, authentic under this key."""
        bow_out = self._note_master(advert, key, family, source, now)
        situation = judge(
            self.state,
            advbase=self.settings.advbase,
            advskew=self.effective_advskew(demotion),
            his_advbase=advert.advbase,
            his_advskew=advert.advskew,
            preempt=preempt,
            yields_to_equal=self._yields_to_equal(family, source),
        )
        if self.state is State.INIT:
            return
        if self.state is State.BACKUP:
            if not self.apply(situation, now, source):
                self._arm_master_down(family, now)
        elif self.leaving:
            self.successor_heard = self.successor_heard or not bow_out
        elif self.suspect and not bow_out:
            self.apply(Situation.STALLED, now, source)
        elif not self.apply(situation, now, source):
            self._answer_other_master(source, bow_out, now)

    def _note_master(self, advert: Advertisement, key: AdvertKey, family: int, source: bytes, now: float) -> bool:
        bow_out = advert.advbase == advert.advskew == 255
        heard = self.heard
        if heard is None or (heard.family == family and heard.source != source):
            heard = self.heard = Heard(source, family, advert.advbase, advert.advskew, advert.demotion, key, now, now)
        elif heard.family == family:
            if not bow_out:
                heard.time(key, now)
                heard.advbase, heard.advskew, heard.demotion = advert.advbase, advert.advskew, advert.demotion
            heard.at = now
        return bow_out

    def _yields_to_equal(self, family: int, source: bytes) -> bool:
        """Between equals one source address keeps: the lower one, as a number of which the last byte counts most.

        ucarp compares so on little-endian machines, and would hold the address for ever beside a node that does not.
        Only the first family of both decides.
        """
        own = self.port.source(family) if self.port else b""
        if not any(own) or not any(source):
            return True
        return family == self.families[0] and source[::-1] < own[::-1]

    def _answer_other_master(self, source: bytes, bow_out: bool, now: float) -> None:
        """A MASTER that must yield: tell it at once, and take the segment's tables back once it has."""
        if bow_out:
            return
        # What it sent before it can have heard this node, such as the other family's half of a preempted advert.
        unaware = now - self.since < self.interval
        if not unaware and self.announcements.split_heard(now):
            self._journal.append(
                Noticed(
                    at=now,
                    vip=self.settings.name,
                    kind="other master",
                    text=f"{address_text(source)} also advertises as MASTER",
                )
            )
        self.announcements.add_after_split(now, self.dead_time)
        if self._next_advert is not None and self._next_advert - now > self.interval / 2:
            self.advert_due = True
            self._next_advert = now + self.interval

    def handle_deadline(self, now: float) -> None:
        """Timers that are due by `now`."""
        if self.old_keys and any(old.until <= now for old in self.old_keys):
            self.old_keys = [old for old in self.old_keys if old.until > now]
            self._journal.append(
                Noticed(at=now, vip=self.settings.name, kind="rekey", text="the old address list or password ends here")
            )
        if self.state is State.BACKUP:
            overdue = now - min(self._master_down.values(), default=now + 1.0)
            if overdue >= 0 and not self._reprieve(overdue, now):
                self.apply(Situation.TIMED_OUT, now, self.heard.source if self.heard else b"")
        elif self.state is State.MASTER and self._next_advert is not None and self._next_advert <= now:
            self.advert_due = not self.successor_heard
            step = min(self.interval, BOW_OUT_REPEAT) if self.leaving else self.interval
            self._next_advert += step
            if self._next_advert <= now:
                self._next_advert = now + step

    def _reprieve(self, overdue: float, now: float) -> bool:
        """This node itself did not run when the timer was due, and whatever stopped it, such as a busy host of two
        virtual machines, may have stopped the MASTER too: one more interval for it to be heard, once.
        """
        interval = max(self.interval, self._measured() or 0.0)
        if self._reprieved or overdue < REPRIEVE_SHARE * interval:
            return False
        self._reprieved = True
        for family in self._master_down:
            self._master_down[family] = max(self._master_down[family], now + interval)
        return True

    def advertise_now(self) -> None:
        """The demotion changed: every MASTER says so at once."""
        if self.state is State.MASTER and not self.leaving:
            self.advert_due = True

    def reassert(self, now: float) -> None:
        """Still MASTER after a stall or lost addresses: say so to the segment again."""
        self.suspect = False
        self.advert_due = True
        self._next_advert = now + self.interval
        self.announcements.add(now, [0.0, *AFTER_BOW_OUT])

    # Leaving

    def leave(self, situation: Situation, now: float) -> None:
        """Bow out and go on forwarding until `finish_leave`; who is not MASTER obeys at once."""
        if self.state is not State.MASTER:
            self.apply(situation, now)
            return
        limit = LEAVE_LIMIT if self.settings.advbase > 0 else LEAVE_LIMIT_FAST
        self._leave_for, self._leave_until = situation, now + limit
        self.successor_heard = False
        self.announcements.clear()
        self.advert_due = True
        self._next_advert = now + min(self.interval, BOW_OUT_REPEAT)

    def finish_leave(self, now: float) -> None:
        """The successor was heard, or the time for it is over."""
        situation, answered = self._leave_for, self.successor_heard
        self._leave_for, self.successor_heard = None, False
        if situation is None:
            return
        if situation is not Situation.HANDED_OVER or answered:
            self.apply(situation, now)
            if situation is Situation.CHANGED:
                self.configure(now)
                if not answered:
                    self.apply(Situation.UNANSWERED, now)
            return
        self.reassert(now)
        self._journal.append(
            Noticed(
                at=now, vip=self.settings.name, kind="no successor", text="nobody answered the bow-out: stays MASTER"
            )
        )

    # Configuration, links, errors

    def configure(self, now: float, situation: Situation = Situation.CONFIGURED) -> None:
        """INIT to BACKUP, where there is a link and nobody disabled it."""
        if self.enabled and self.port is not None and self.port.up:
            self.apply(situation, now)

    def set_port(self, port: Port | None, now: float) -> None:
        """The link, the MAC or the addresses of the interface changed; None: it is gone."""
        was_up = self.port is not None and self.port.up
        known = self.port is not None
        self.port = port
        if port is not None and port.up:
            if not was_up:
                self.configure(now, Situation.LINK_UP if known else Situation.CONFIGURED)
        elif was_up or self.state is not State.INIT:
            self.apply(Situation.LINK_DOWN, now)

    def change(self, settings: RouterSettings, now: float, rekey_time: float) -> None:
        """New settings for the same VHID and interface; only another key leads through INIT."""
        before = self.settings.key_material
        self.settings = settings
        self.unicast_peers = settings.unicast_peers
        if settings.key_material.same(before):
            self.keep_previous_keys(now)
            return
        self._keep_key(before, now + rekey_time)
        self.keep_previous_keys(now)
        self.old_keys = [old for old in self.old_keys if not old.material.same(settings.key_material)]
        self.key = settings.make_key()
        self.families = settings.families
        self.leave(Situation.CHANGED, now)
        if self.state is State.INIT:
            self.configure(now)

    def keep_previous_keys(self, now: float) -> None:
        """What the settings were before, the latest first, where the other nodes may still have those."""
        for material in reversed(self.settings.previous):
            self._keep_key(material, now + material.remaining)

    def _keep_key(self, material: KeyMaterial, until: float) -> None:
        known = [old for old in self.old_keys if old.material.same(material)]
        key = known[0].key if known else self.settings.make_key(material)
        others = [old for old in self.old_keys if old not in known]
        self.old_keys = [OldKey(material, key, until), *others][:MAX_OLD_KEYS]

    def rekeyed(self, until: float, now: float) -> None:
        """The nodes that can be asked are known to have the new addresses and password: the old ones end by then."""
        ending = [old._replace(until=min(old.until, until)) for old in self.old_keys]
        self.old_keys = [old for old in ending if old.until > now]

    def sent(self, family: int, error: int) -> bool | None:
        """What became of an advertisement: 0 or an errno. Returns True or False where sending began to fail or
        works again.

        Three failures in a row demote the node, three successes end that (CARP_SENDAD_MAX_ERRORS, _MIN_SUCCESS).
        """
        if error:
            self.counters.onomem += 1
            self._send_errors, self._send_successes = self._send_errors + 1, 0
            if self._send_errors == DEAD_RATIO and not self.send_failing:
                self.send_failing = True
                return True
            return None
        if family == 4:
            self.counters.opackets += 1
        else:
            self.counters.opackets6 += 1
        if not self._send_errors:
            return None
        self._send_successes += 1
        if self._send_successes < DEAD_RATIO:
            return None
        self._send_errors = self._send_successes = 0
        failing, self.send_failing = self.send_failing, False
        return False if failing else None
