//! Passes of a model over a data split: evaluate, probe, capture
