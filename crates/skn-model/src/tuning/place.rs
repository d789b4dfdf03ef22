use std::fmt;
use std::str::FromStr;

use crate::error::ModelError;

/// Where a decoder's prompt stands. No row of it sees what comes behind, so a prompt in front tells nothing of the text.
///
/// ```
/// use skn_model::PromptPlace;
///
/// assert_eq!("front".parse::<PromptPlace>()?, PromptPlace::Front);
/// assert_eq!(PromptPlace::default().to_string(), "after");
/// # Ok::<(), skn_model::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PromptPlace {
    /// Before everything, the token that begins a text included: as PEFT puts it
    Front,
    /// Behind the text
    #[default]
    After,
}

impl PromptPlace {
    /// Its name: front or after.
    pub fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::After => "after",
        }
    }
}

impl fmt::Display for PromptPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PromptPlace {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let known = [Self::Front, Self::After].into_iter().find(|place| place.name() == name);
        known.ok_or_else(|| ModelError::input("place of the prompt", "front or after", name))
    }
}
