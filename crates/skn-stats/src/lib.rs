//! Probing statistics: exact mergeable accumulators, predictivity, ranks, significance
