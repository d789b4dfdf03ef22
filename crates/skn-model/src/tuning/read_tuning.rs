use super::Tuning;

/// What [`Tuning::read`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReadTuning {
    /// The tuning itself.
    pub tuning: Tuning,
    /// Something the user should know about it.
    pub warning: Option<String>,
}

impl From<Tuning> for ReadTuning {
    fn from(tuning: Tuning) -> Self {
        Self { tuning, warning: None }
    }
}
