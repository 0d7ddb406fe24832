"""The compiled kernels: bytes and rows in, bytes and rows out. No sockets, no policy, no clock."""
