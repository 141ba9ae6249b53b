"""Cloud Functions, and other URLs."""
