"""Optional parts: each module imports its package only when it is used, and nothing imports them."""
