"""What drives the latency: slopes of the rows themselves, and what the fitted regressor makes of its inputs."""
