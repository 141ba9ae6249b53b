"""The service: settings, metrics, logs, shutdown, and the process around the engine."""
