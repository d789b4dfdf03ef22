use clap::{Args, ValueEnum};

/// Flags of every program.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// How to show progress, on stderr
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: ProgressKind,

    /// Say more (repeat for more)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say only what went wrong
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// How progress is shown.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressKind {
    /// A bar on a terminal, lines elsewhere
    Auto,
    /// A bar
    Bar,
    /// A line now and then
    Log,
    /// Nothing
    None,
}
