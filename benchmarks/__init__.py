"""What is promised about speed and limits, measured."""
