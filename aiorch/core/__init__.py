"""What happens next. Pure."""
