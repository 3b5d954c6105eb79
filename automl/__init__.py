"""Who runs trials, on which machines, and what they found: the study and its command line."""
