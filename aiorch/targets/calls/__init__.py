"""The parts that all targets with HTTP calls share."""
