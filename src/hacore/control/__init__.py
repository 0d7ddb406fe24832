"""The node-to-node API over mutual TLS, its client, certificates and pairing."""
