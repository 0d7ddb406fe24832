"""The node that a command is about: its directories, by the settings file, and whether one runs there."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hacore.node.bus import Client
    from hacore.node.settings import Directories


def directories(settings_path: str) -> Directories:
    """Where the node keeps its sockets and its state. Raises SettingsError only where the file does not tell that."""
    from hacore.node.settings import load_directories

    return load_directories(settings_path)


def client(settings_path: str) -> Client:
    """Who asks the node that was started with these settings."""
    from hacore.node.bus import Client

    return Client(directories(settings_path).runtime_dir)


def listens(places: Directories) -> bool:
    """Whether a process takes connections for the node, also where it is too stuck to answer."""
    from hacore.node.bus import SocketPath

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as trial:
        try:
            with SocketPath(places.runtime_dir) as path:
                trial.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True
