"""What users call: images, chat, models, balance."""
