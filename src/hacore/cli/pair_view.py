"""What `hacore pair` looks like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hacore.cli.terminal import duration, moment
from hacore.control.pairing_answers import CertificateShown, PairedNode, PairList

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["PairList", "fingerprint", "renewal_line", "view"]

SOON = 30 * 86400.0


def fingerprint(text: str) -> str:
    """As `openssl x509 -noout -fingerprint -sha256` writes it."""
    return ":".join(re.findall("..", text.upper()))


def view(found: PairList) -> Iterator[Text]:
    """Line by line."""
    from rich.text import Text

    yield Text(found.node, style="bold")
    if found.own is None:
        yield Text("  no certificate yet: hacore pair invite, or hacore pair join", style="yellow")
    else:
        yield from _certificate(found.own, found.generated)
    if found.renewal is not None:
        waiting = ", ".join(found.renewal.waiting_for) or "nobody"
        yield Text(f"  renewal under way since {moment(found.renewal.began)}, waits for {waiting}", style="yellow")
    for peer in found.peers:
        yield Text()
        yield from _peer(peer, found.generated)
    yield Text()
    for one in found.invitations:
        wrong = f", tried {one.wrong} times with a wrong secret" if one.wrong else ""
        yield Text(f"a token is open for another {duration(one.expires - found.generated)}{wrong}")
    if found.attempts.made:
        yield Text(f"attempts to join: {found.attempts.made}, refused {found.attempts.refused}, held back "
                   f"{found.attempts.held_back}")  # fmt: skip
    for warning in found.warnings:
        yield Text(f"warning: {warning}", style="yellow")


def _peer(peer: PairedNode, now: float) -> Iterator[Text]:
    from rich.text import Text

    title = Text(peer.name, style="bold").append(f"  {peer.place}", style="not bold")
    if not peer.certificates:
        title.append("  not paired", style="not bold yellow")
    elif peer.answers:
        title.append(f"  answers, hacore {peer.version}", style="not bold green")
    else:
        title.append("  does not answer", style="not bold red")
    yield title
    for certificate in peer.certificates:
        yield from _certificate(certificate, now)
    if peer.certificates and peer.problem is not None:
        hint = f" ({peer.problem.hint})" if peer.problem.hint else ""
        yield Text(f"  {peer.problem.message}{hint}", style="red")


def _certificate(one: CertificateShown, now: float) -> Iterator[Text]:
    from rich.text import Text

    left = one.expires - now
    when = f"until {moment(one.expires)}"
    if left < 0:
        yield Text(f"  expired: {moment(one.expires)}", style="bold red")
    else:
        yield Text(f"  {when}, for {duration(left)}", style="yellow" if left < SOON else "")
    yield Text(f"  SHA-256 {fingerprint(one.fingerprint)}", style="dim")


def renewal_line(step: dict[str, Any]) -> str:
    """One step in one line."""
    when = f", until {moment(step['expires'])}" if step["expires"] else ""
    words = {
        "made": f"new certificate made{when}: SHA-256 {fingerprint(step['fingerprint'])}",
        "told": f"{step['peer']} knows it",
        "not told": f"{step['peer']} could not be told: {step['message']}",
        "switched": f"it is in use{when}",
        "confirmed": f"{step['peer']} does not trust the old one any more",
        "not confirmed": f"{step['peer']} could not be told that it is in use: {step['message']}",
        "waiting": f"waiting: {step['message']}",
        "done": "done",
    }
    return words.get(str(step["step"]), str(step["step"]))
