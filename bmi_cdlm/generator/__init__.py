"""Parameter generators without torch: specification, evaluation, checkpoint."""
