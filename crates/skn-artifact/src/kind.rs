/// What went wrong, as far as whoever asked can do something about it. Every error of this workspace's crates has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for does not exist or does not fit.
    Usage,
    /// A file is missing or is not what it should be.
    Input,
    /// A model or data set is not here and would have to be fetched.
    NotHere,
    /// The device can't be had, or failed.
    Device,
    /// Another program works on the same run.
    Locked,
    /// It was told to stop.
    Interrupted,
    /// Anything else: the system refused something, or numbers ran away.
    Failed,
}
