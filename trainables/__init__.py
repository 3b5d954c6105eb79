"""What one trial does: data, SAM supernets, their training, evaluation and costs."""
