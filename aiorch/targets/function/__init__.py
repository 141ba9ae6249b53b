"""Python callables, carried out in this process."""
