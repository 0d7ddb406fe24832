"""`hacore bench`: what replication and failover cost on this machine, beside baselines of the same run.

A run is one document (`hacore.bench.result`); the terminal's table, the page and the comparison are made from it.
"""
