use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::shared::Shared;

/// The token ids of a text: a stretch of those of the texts around it, as a [`Text`](crate::Text) is of their strings.
/// It reads as a `&[u32]`, and is made of a `Vec<u32>`.
///
/// ```
/// use skn_data::TokenIds;
///
/// let ids = TokenIds::from(vec![0, 713, 2]);
/// assert_eq!((ids.len(), ids[1]), (3, 713));
/// assert_eq!(std::mem::size_of::<TokenIds>(), 16);
/// ```
#[derive(Clone)]
pub struct TokenIds(Shared<[u32]>);

impl TokenIds {
    /// Those of several texts of these lengths, which stand in `all` one after another.
    pub(crate) fn divide(all: Vec<u32>, lengths: impl Iterator<Item = usize>) -> Vec<Self> {
        let all = Arc::new(all.into_boxed_slice());
        let mut start = 0;
        let stretch = |length: usize| {
            let stretch = start..start + length;
            start = stretch.end;
            // What lies too far behind for a stretch has an allocation for itself.
            Shared::stretch(&all, stretch.clone()).map_or_else(|| all[stretch].to_vec().into(), Self)
        };
        lengths.map(stretch).collect()
    }
}

impl From<Vec<u32>> for TokenIds {
    fn from(ids: Vec<u32>) -> Self {
        Self(Shared::whole(ids.into_boxed_slice()))
    }
}

impl Deref for TokenIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.0.get()
    }
}

impl PartialEq for TokenIds {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for TokenIds {}

impl fmt::Debug for TokenIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_share_one_store_and_stay_themselves() {
        let shared = TokenIds::divide(vec![0, 5, 2, 0, 2], [3, 0, 2].into_iter());
        let texts: Vec<&[u32]> = shared.iter().map(|ids| &**ids).collect();
        assert_eq!(texts, [&[0, 5, 2][..], &[], &[0, 2]]);
        assert_eq!(shared[0].as_ptr().wrapping_add(3), shared[2].as_ptr(), "one after another");
        assert_eq!(shared[2], TokenIds::from(vec![0, 2]));
        assert_ne!(shared[0], shared[2]);
    }
}
