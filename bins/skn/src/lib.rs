//! The programs of skn.
/// stages
pub mod stage {
    pub mod pretrain;
}
