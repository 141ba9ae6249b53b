"""The machine: clock, randomness, environment variables, standstills, and the exit of a process."""
