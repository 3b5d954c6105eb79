"""A study of channel pruning by PASS (arXiv 2407.17412): networks of fewer channels."""
