"""PASS (arXiv 2407.17412): a visual prompt and a recurrent hypernetwork find channels to prune."""
