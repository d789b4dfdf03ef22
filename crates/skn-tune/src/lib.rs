//! Training loop for prompts, biases, adapters and whole models: Adam, schedule, clipping, exact resume
