//! Differentiable tensor operations for packed sequences, on candle
