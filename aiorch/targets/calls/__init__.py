"""What targets share that make HTTP calls."""
