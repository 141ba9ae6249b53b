"""What all adapters of Google Cloud share."""
