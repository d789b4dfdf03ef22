//! RoBERTa masked language model with hooks, soft prompts, BitFit, adapters and per-layer FFN widths
