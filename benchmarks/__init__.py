"""What the figures in the README come from: one command each, peer and ours in one run."""
