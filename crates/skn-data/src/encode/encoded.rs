use crate::token_ids::TokenIds;

/// A text as the model takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, `<s>` and `</s>` (`[CLS]` and `[SEP]`) included.
    pub ids: TokenIds,
    /// Where in `ids` the second text of a pair begins; their number if there is none.
    pub second: usize,
    /// The class.
    pub label: usize,
    /// The row in its part (train, dev or test), from 0.
    pub row: u64,
}
