"""What is promised about speed, memory and limits, measured: `python -m benchmarks`."""
