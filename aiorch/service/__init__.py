"""What the long-running service needs besides the engine: settings, metrics, logs, its end. Wired by ``service.py``."""
