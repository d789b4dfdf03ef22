/// Inputs and outputs of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}
