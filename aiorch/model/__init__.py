"""What there is: DAGs, runs, failures, names. Pure records."""
