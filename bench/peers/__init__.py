"""The peers' side: one script a peer, run by the interpreter of that peer's own environment."""
