"""Services with limits that nobody published, and clients that must find them, in virtual time.

The adaptive controller was chosen in such a simulation and is judged by this one: `python -m
benchmarks.simulation` prints, for each scenario, what is required and what was reached.
"""
