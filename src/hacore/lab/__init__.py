"""The lab: two real nodes between a client and a server in network namespaces; faults, and what they cost the client.

`topology` builds the network and `nodes` the pair in it, `faults` breaks it, `probe` sends through it, `capture` and
`address_watch` see what the kernel sees, `figures` turns that into numbers, `scenarios` puts the parts together,
`report` and `tour` show the result.
"""
