//! What the stages of skn exchange: tensor files, JSON records, journals and locks
