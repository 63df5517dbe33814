"""Turn prompts into pictures on disk through HInow.ai."""
