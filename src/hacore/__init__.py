"""Makes two or more Linux firewalls one: CARP addresses, replicated connections, configuration pushed on command."""

__version__ = "0.1.0"
