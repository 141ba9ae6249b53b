"""The decisions about a run: pure functions and records."""
