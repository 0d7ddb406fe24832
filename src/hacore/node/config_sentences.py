"""What became of a transaction, in words for the event history."""

from __future__ import annotations

from hacore.configsync.report import Failure, Outcome
from hacore.node.config_transaction import Order


def sentence(order: Order, outcome: Outcome) -> str:
    """An outcome for the history."""
    names = ", ".join(target.section for target in order.targets) or "services"
    what = f"{order.action} of {names} by {order.by}"
    failure = outcome.failure
    why = failure_text(failure) if failure is not None else ""
    if outcome.result == "applied":
        return f"{what}: applied as revision {outcome.revision}"
    if outcome.result == "checked":
        return f"{what}: checked only, it would do"
    if outcome.result == "refused":
        return f"{what}: refused, nothing was changed: {why}"
    if outcome.result == "undone":
        again = f"; but then: {'; '.join(outcome.undo)}" if outcome.undo else ""
        return f"{what}: undone, the previous state is back: {why}{again}"
    return f"{what}: {why}; the previous state could not be put back: {'; '.join(outcome.undo)}"


def failure_text(failure: Failure) -> str:
    """A failure in one paragraph: what, which command, its output."""
    parts = [failure.message]
    if failure.command:
        parts.append(f"command: {' '.join(failure.command)}")
    if failure.output:
        parts.append(f"output: {failure.output}")
    return "; ".join(parts)
