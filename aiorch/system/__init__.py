"""What the engine has of the machine: its clock, chance, environment, and the way out of a process."""
