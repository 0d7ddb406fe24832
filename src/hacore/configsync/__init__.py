"""Configuration push, without a clock, socket or file: what differs, what is sent, and the steps of one transaction."""
