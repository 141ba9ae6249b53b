"""What stands for Google Cloud in the acceptance test of the service: real components where there are any."""
