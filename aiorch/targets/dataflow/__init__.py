"""Dataflow jobs."""
