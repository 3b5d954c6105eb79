"""Pictures and instance masks: readers, the Parquet layout, prompts, training batches."""
