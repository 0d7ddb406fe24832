"""Everything the node API refuses with, as one exception with a code for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hacore.control.schemas import Problem
from hacore.errors import HacoreError

#: What a command ends with (sysexits.h) when the API answered with this code; every other code ends with 1.
EXIT_CODES: Mapping[str, int] = {
    "bad-request": 64,
    "not-found": 64,
    "not-configured": 78,
    "check-failed": 65,
    "name-not-found": 68,
    "refused": 69,
    "unreachable": 69,
    "not-running": 69,
    "internal": 70,
    "apply-failed": 73,
    "disk-full": 74,
    "timed-out": 74,
    "connection-lost": 74,
    "busy": 75,
    "guarded": 75,
    "tls": 76,
    "version": 76,
    "certificate-unknown": 77,
    "certificate-expired": 77,
    "certificate-revoked": 77,
    "no-certificate": 77,
    "not-allowed": 77,
}


class ApiError(HacoreError):
    """A request that is not answered with what it asked for.

    `status` is the HTTP status, `code` a kebab-case word that programs compare, `message` one sentence, `hint` what
    to do about it, or "". `details` go into the answer beside them (JSON values).
    """

    def __init__(self, status: int, code: str, message: str, hint: str = "", **details: Any) -> None:
        message = message.encode("utf-8", "backslashreplace").decode()  # of headers that are no UTF-8
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.status, self.code, self.message, self.hint, self.details = status, code, message, hint, details
        self.exit_code = EXIT_CODES.get(code, 1)

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, **self.details}}


def from_body(status: int, body: Any, whence: str = "") -> ApiError:
    """The error in an answer, as the other side raised it; `whence` goes before the message."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ApiError(status, "unexpected", f"{whence}an answer of status {status} that is not of this API")
    known = {"code", "message", "hint"}
    return ApiError(
        status,
        str(error.get("code", "unexpected")),
        whence + str(error.get("message", f"status {status}")),
        str(error.get("hint", "")),
        **{str(key): value for key, value in error.items() if key not in known},
    )


def as_problem(error: ApiError) -> Problem:
    """The same as a value."""
    return Problem(code=error.code, message=error.message, hint=error.hint)


def bad_request(message: str, hint: str = "") -> ApiError:
    """The request is not what the route takes."""
    return ApiError(400, "bad-request", message, hint)


def not_found(message: str, hint: str = "") -> ApiError:
    """No such route, section, service, revision."""
    return ApiError(404, "not-found", message, hint)
