"""The pure part: nothing in here waits, opens anything, or asks what time it is."""
