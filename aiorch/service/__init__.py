"""The service: settings, metrics, logs, its end, and the process around the engine."""
