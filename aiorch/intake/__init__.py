"""From messages to events of runs."""
