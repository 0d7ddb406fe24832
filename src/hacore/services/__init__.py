"""Services of a node: what is known of one, what may be asked of it, and which of them follow a VIP."""
