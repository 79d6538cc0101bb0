"""What drives the latency: slopes of the rows themselves, and what a fitted regressor makes of inputs."""
