//! Ranking of neurons by predictivity, and masks of the best of them
