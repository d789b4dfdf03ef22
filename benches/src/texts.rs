use skn_data::Encoded;
use skn_random::{Key, Purpose};

use crate::model::VOCABULARY;

/// Rows before `<s>` in every benchmark: the `<mask>` row and 15 of prompt.
pub const PROMPT_ROWS: usize = 16;

/// The most tokens that fit into RoBERTa's 512 positions beside the prompt.
const LONGEST: usize = 512 - PROMPT_ROWS;

/// How many tokens texts have, `<s>` and `</s>` counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// As SST-2's train: phrases, about 13 tokens, long tail up to 66.
    Sst2Train,
    /// As SST-2's dev: whole sentences, about 25 tokens, long tail up to 66.
    Sst2Dev,
    /// As IMDB's reviews, about 260 tokens, a seventh of them cut at 496.
    Imdb,
    /// So many rows that prompt and text have this many together.
    Fixed(usize),
}

impl Lengths {
    /// The name in reports.
    pub fn name(self) -> String {
        match self {
            Self::Sst2Train => "sst2-train".into(),
            Self::Sst2Dev => "sst2-dev".into(),
            Self::Imdb => "imdb".into(),
            Self::Fixed(rows) => format!("rows-{rows}"),
        }
    }

    /// The same `count` texts at every call, of random tokens and two classes.
    pub fn texts(self, count: usize) -> Vec<Encoded> {
        (0..count).map(|row| self.text(row)).collect()
    }

    fn text(self, row: usize) -> Encoded {
        let mut rng = Key::new(0, Purpose::Corpus).sample(row as u64).rng();
        let length = self.length(rng.normal());
        let mut ids: Vec<u32> = (0..length).map(|_| 5 + rng.below(VOCABULARY - 6) as u32).collect();
        ids[0] = 0;
        ids[length - 1] = 2;
        Encoded { second: ids.len(), ids: ids.into(), label: row % 2, row: row as u64 }
    }

    /// Lengths without `<s>` and `</s>` are log-normal: `median * e^(spread * normal)`.
    fn length(self, normal: f64) -> usize {
        let (median, spread, longest) = match self {
            Self::Sst2Train => (8.5f64, 0.75, 66),
            Self::Sst2Dev => (21.0, 0.5, 66),
            Self::Imdb => (230.0, 0.7, LONGEST),
            Self::Fixed(rows) => return rows.saturating_sub(PROMPT_ROWS).clamp(2, LONGEST),
        };
        (2 + (median * (spread * normal).exp()).round() as usize).clamp(3, longest)
    }
}

/// Rows of all texts together, prompts included: what a forward pass computes.
pub fn rows(texts: &[Encoded]) -> usize {
    texts.iter().map(|text| text.ids.len() + PROMPT_ROWS).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lengths: Lengths, mean: std::ops::Range<f64>, longest: usize) {
        let texts = lengths.texts(2000);
        let found = texts.iter().map(|text| text.ids.len()).sum::<usize>() as f64 / 2000.0;
        assert!(mean.contains(&found), "{lengths:?}: mean {found}");
        assert_eq!(texts.iter().map(|text| text.ids.len()).max(), Some(longest), "{lengths:?}");
        assert!(texts.iter().flat_map(|text| text.ids.iter()).all(|&id| (id as usize) < VOCABULARY - 1));
    }

    #[test]
    fn lengths_are_like_the_real_ones() {
        check(Lengths::Sst2Train, 12.5..14.0, 66);
        check(Lengths::Sst2Dev, 24.5..27.0, 66);
        check(Lengths::Imdb, 220.0..280.0, 496);
        check(Lengths::Fixed(32), 16.0..16.5, 16);
    }

    #[test]
    fn rows_count_the_prompts() {
        assert_eq!(rows(&Lengths::Fixed(128).texts(3)), 3 * 128);
    }
}
