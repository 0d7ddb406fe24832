"""The node API: what nodes ask of each other over mutual TLS, and the local command line over a Unix socket.

`server` answers, `client` asks a peer, `local` asks this node's own worker (and needs nothing but the standard
library). A part of the API is one module `routes_NAME` or `local_routes_NAME`; see `registry`.
"""
