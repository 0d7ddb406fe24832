"""Units of systemd over the system bus: how they are, and start, stop and restart with the result of the job.

Interface: org.freedesktop.systemd1(5). A job that was ordered ends with the signal JobRemoved, which carries its result
("done", "failed", "timeout", "canceled", "dependency", "skipped", ...). Only the control worker imports this module.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import Any, NamedTuple

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

from hacore.errors import PlatformError, PrivilegeError

SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
BUS = "org.freedesktop.DBus"
#: For everything but the wait for a job: the manager answers in milliseconds, and in a second when it reloads.
ANSWER_TIMEOUT = 10.0
#: Jobs that ended before the answer which names them was read; more than ever run at once.
ENDED_KEPT = 256

METHODS = {"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit"}


class UnitStatus(NamedTuple):
    """`load_state` ("loaded", "not-found", "masked", ...), `active_state` and `sub_state` as systemd names them.

    `result` is "success" or why the unit failed ("exit-code", "timeout", ...); `since` unix time of the last change of
    `active_state`, None where it never changed; `began` is when its last run did, None for one that never ran, and
    `began_monotonic` the same in seconds of the monotonic clock.
    `outdated`: its files are others than those that systemd has read. `main_pid` is that of the process that failed, 0
    where nothing did or there was none.
    """

    unit: str
    load_state: str
    active_state: str
    sub_state: str
    result: str
    since: float | None
    began: float | None
    outdated: bool = False
    main_pid: int = 0
    began_monotonic: float | None = None


class JobResult(NamedTuple):
    """`result` is the job's ("done" is success), "not-found" or "masked" where there was none to be made."""

    result: str
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the unit is as it was asked to be."""
        return self.result == "done"


class _Refusal(PlatformError):
    """The answer of the manager was an error; `name` is that of D-Bus."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"systemd refuses: {message} ({name})")
        self.name = name
        self.text = message


class Systemd:
    """A connection to the manager, made when it is first needed and made anew when it broke."""

    def __init__(self, address: str | None = None) -> None:
        """`address` of the bus as D-Bus writes it; without one the system bus."""
        self._address = address
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()

    async def status(self, unit: str) -> UnitStatus:
        """How the unit is. Raises PlatformError where systemd cannot be asked."""
        (path,) = await self._manager("LoadUnit", "s", [unit])
        values = await self._properties(path, f"{SYSTEMD}.Unit")
        active = str(values["ActiveState"])
        stamps = {"active": "Active", "inactive": "Inactive", "failed": "Inactive"}
        since_us = int(values[f"{stamps[active]}EnterTimestamp" if active in stamps else "StateChangeTimestamp"])
        result, main_pid = "success", 0
        if active == "failed":
            kind = unit.rpartition(".")[2].capitalize()
            with suppress(_Refusal):  # a target and some others have none
                more = await self._properties(path, f"{SYSTEMD}.{kind}")
                result, main_pid = str(more.get("Result", "failed")), int(more.get("ExecMainPID", 0))
        return UnitStatus(
            unit=unit,
            load_state=str(values["LoadState"]),
            active_state=active,
            sub_state=str(values["SubState"]),
            result=result,
            since=since_us / 1e6 if since_us else None,
            began=began_us / 1e6 if (began_us := int(values["InactiveExitTimestamp"])) else None,
            outdated=bool(values.get("NeedDaemonReload", False)),
            main_pid=main_pid,
            began_monotonic=begun_us / 1e6 if (begun_us := int(values["InactiveExitTimestampMonotonic"])) else None,
        )

    async def run_job(self, unit: str, action: str, timeout: float) -> JobResult:
        """Starts, stops or restarts the unit, replacing jobs that contradict, and waits for the result.

        How often systemd has started it lately does not count against what is asked for here: a return to what was
        before must not fail at the limit that the attempts have used up.

        After `timeout` the job goes on and the result is "waited": systemd has its own limits for the unit itself.
        Cancelling the call leaves the job too.
        """
        if action != "stop":
            with suppress(_Refusal):  # one that systemd does not know is told of below
                await self._manager("ResetFailedUnit", "s", [unit])
        try:
            (path,) = await self._manager(METHODS[action], "ss", [unit, "replace"])
        except _Refusal as refusal:
            kinds = {f"{SYSTEMD}.NoSuchUnit": "not-found", f"{SYSTEMD}.UnitMasked": "masked"}
            if refusal.name in kinds:
                return JobResult(kinds[refusal.name], refusal.text)
            raise
        result = self._ended.pop(path, None)
        if result is None:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._waiting[path] = future
            try:
                async with asyncio.timeout(timeout):
                    result = await future
            except TimeoutError:
                return JobResult("waited", f"systemd has not ended the job within {timeout:g} s")
            finally:
                self._waiting.pop(path, None)
        return JobResult(result)

    async def reload(self) -> None:
        """`systemctl daemon-reload`: unit files that changed are read."""
        await self._manager("Reload", "", [])

    def close(self) -> None:
        """Lets go of the bus."""
        if self._bus is not None:
            self._bus.disconnect()
        self._lost()

    def _lost(self) -> None:
        self._bus = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(PlatformError("the connection to systemd was lost"))
        self._ended.clear()

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is not None and self._bus.connected:
                return self._bus
            self._lost()
            try:
                bus = MessageBus(self._address, BusType.SYSTEM)
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await bus.connect()
            except (OSError, AuthError, InvalidAddressError, EOFError, TimeoutError) as error:
                why = str(error) or type(error).__name__
                raise PlatformError(
                    f"the system bus does not answer ({why}): systemd is asked over it; install the Debian package dbus"
                ) from None
            bus.add_message_handler(self._heard)
            self._bus = bus
            rule = f"type='signal',sender='{SYSTEMD}',path='{MANAGER_PATH}',interface='{MANAGER}',member='JobRemoved'"
            await self._call(bus, BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", [rule])
            await self._call(bus, SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe", "", [])
            return bus

    def _heard(self, message: Message) -> bool | None:
        if message.message_type is not MessageType.SIGNAL or message.member != "JobRemoved":
            return None
        _number, path, _unit, result = message.body
        future = self._waiting.get(path)
        if future is None:
            self._ended[path] = result
            while len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)
        elif not future.done():
            future.set_result(result)
        return None

    async def _manager(self, method: str, signature: str, body: list[Any]) -> list[Any]:
        return await self._call(await self._connected(), SYSTEMD, MANAGER_PATH, MANAGER, method, signature, body)

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        (found,) = await self._call(
            await self._connected(), SYSTEMD, path, "org.freedesktop.DBus.Properties", "GetAll", "s", [interface]
        )
        return {name: value.value if isinstance(value, Variant) else value for name, value in found.items()}

    async def _call(
        self, bus: MessageBus, destination: str, path: str, interface: str, method: str, signature: str, body: list[Any]
    ) -> list[Any]:
        message = Message(
            destination=destination, path=path, interface=interface, member=method, signature=signature, body=body
        )
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                reply = await bus.call(message)
        except TimeoutError:
            raise PlatformError(f"systemd did not answer {method} within {ANSWER_TIMEOUT:g} s") from None
        except (OSError, EOFError) as error:
            self._lost()
            raise PlatformError(f"the connection to systemd was lost: {error}") from None
        if reply is None:
            raise PlatformError("the connection to systemd was lost")
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else "without a reason"
            if reply.error_name in (f"{BUS}.Error.AccessDenied", f"{BUS}.Error.InteractiveAuthorizationRequired"):
                raise PrivilegeError(f"systemd does not let this process {method}: {text}; run the node as root")
            raise _Refusal(reply.error_name or "", text)
        return list(reply.body)
