"""Pictures with classes: readers of published layouts, and batches."""
