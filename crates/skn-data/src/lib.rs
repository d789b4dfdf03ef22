//! Tasks, readers, splits, tokenising and packed batches for text classification
