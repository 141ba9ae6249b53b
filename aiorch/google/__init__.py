"""Parts that all adapters of Google Cloud share."""
