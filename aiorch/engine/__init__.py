"""One process at work. It knows ports, and no adapter."""
