//! The data in a group of processes: rank 0 reads and checks them, and hands out the rows.

use skn_data::{Example, PartIndex, SplitIndex, Splits, Text, part_hash, shard};
use skn_probing::{Group, ProbingError};

use crate::error::Result;
use crate::session::Session;

/// Which texts a process gets; every row has its label everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    /// All of them: an epoch goes through them in any order.
    All,
    /// Those of its share of each part; the others are empty.
    Own,
}

/// The rows, as a process has them.
pub(crate) struct Spread {
    pub(crate) splits: Splits,
    /// What [`part_hash`] says of train, dev and test as rank 0 has them; of one process nothing.
    pub(crate) hashes: Option<[String; 3]>,
}

/// Reads the rows in the one process, or in rank 0, which hands them out.
///
/// # Errors
/// Those of `read`, in rank 0; if a process is gone.
pub(crate) fn spread(
    session: &Session,
    texts: Texts,
    read: impl FnOnce() -> Result<Splits>,
) -> Result<Spread> {
    let group = session.group();
    if group.size() == 1 {
        return Ok(Spread { splits: read()?, hashes: None });
    }
    if !group.is_first() {
        let bytes = match texts {
            Texts::All => group.broadcast(Vec::new())?,
            Texts::Own => group.scatter(&mut |_| Vec::new())?,
        };
        return read_spread(&mut bytes.as_slice()).ok_or_else(|| broken(group).into());
    }
    let splits = read()?;
    let hashes = parts(&splits).map(|part| part_hash(part));
    match texts {
        Texts::All => drop(group.broadcast(to_bytes(&splits, &hashes, |_, _| true))?),
        Texts::Own => {
            let mut of_rank = |rank: usize| {
                let owns = |rows: usize, row: usize| owns(rows, row, rank, group.size());
                if rank == 0 { Vec::new() } else { to_bytes(&splits, &hashes, owns) }
            };
            group.scatter(&mut of_rank)?;
        }
    }
    Ok(Spread { splits, hashes: Some(hashes) })
}

fn parts(splits: &Splits) -> [&Vec<Example>; 3] {
    [&splits.train, &splits.dev, &splits.test]
}

/// Whether a row is in a rank's share of so many.
fn owns(rows: usize, row: usize, rank: usize, size: usize) -> bool {
    first_of_share(rows, rank, size) <= row && row < first_of_share(rows, rank + 1, size)
}

/// Where the share of a rank begins among so many rows, as [`shard`] cuts them.
pub(crate) fn first_of_share(rows: usize, rank: usize, size: usize) -> usize {
    let (each, larger) = (rows / size, rows % size);
    rank * each + rank.min(larger)
}

/// This process's share of a part.
///
/// # Errors
/// None that a group gives.
pub(crate) fn own<'r, T>(group: &dyn Group, rows: &'r [T]) -> Result<&'r [T]> {
    Ok(shard(rows, group.rank(), group.size())?)
}

/// What another process sent is not what this one reads.
fn broken(group: &dyn Group) -> ProbingError {
    ProbingError::Mismatch {
        what: format!("rows of the data, sent to {}", group.name()),
        expected: "those of the same version of the program".into(),
        found: "others".into(),
    }
}

/// Hashes, names and rows: numbers are u64, little-endian, texts have their length before them.
fn to_bytes(splits: &Splits, hashes: &[String; 3], has: impl Fn(usize, usize) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let SplitIndex { data_sha256, train, dev, test } = &splits.source;
    let names = [data_sha256, &train.split, &dev.split, &test.split];
    names.into_iter().chain(hashes).for_each(|text| put(&mut bytes, text));
    for part in parts(splits) {
        number(&mut bytes, part.len() as u64);
        for (row, example) in part.iter().enumerate() {
            let has = has(part.len(), row);
            number(&mut bytes, example.label.cast_unsigned());
            number(&mut bytes, example.texts().count() as u64);
            example.texts().for_each(|text| put(&mut bytes, if has { text } else { "" }));
        }
    }
    bytes
}

fn number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

fn read_spread(bytes: &mut &[u8]) -> Option<Spread> {
    let mut texts = Vec::new();
    for _ in 0..7 {
        texts.push(text(bytes)?.to_owned());
    }
    let [data_sha256, train, dev, test, hashes @ ..] = <[String; 7]>::try_from(texts).ok()?;
    let index = |split| PartIndex { split, rows: Default::default() };
    let source = SplitIndex { data_sha256, train: index(train), dev: index(dev), test: index(test) };
    let [train, dev, test] = [rows(bytes)?, rows(bytes)?, rows(bytes)?];
    let mut splits = Splits::default();
    (splits.train, splits.dev, splits.test, splits.source) = (train, dev, test, source);
    bytes.is_empty().then_some(Spread { splits, hashes: Some(hashes) })
}

fn rows(bytes: &mut &[u8]) -> Option<Vec<Example>> {
    let count = usize::try_from(take(bytes)?).ok()?;
    // What says more than there is.
    let mut rows = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        let label = take(bytes)?.cast_signed();
        let mut texts = Vec::new();
        for _ in 0..take(bytes)? {
            texts.push(Text::from(text(bytes)?));
        }
        let mut texts = texts.into_iter();
        rows.push(Example { text: texts.next()?, pair: texts.next(), more: texts.collect(), label });
    }
    Some(rows)
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn text<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits() -> Splits {
        let example = |text: &str, pair: Option<&str>, label| Example {
            text: text.into(),
            pair: pair.map(Into::into),
            more: Box::default(),
            label,
        };
        let part = |split: &str| PartIndex { split: split.into(), rows: vec![3, 1].into() };
        let mut splits = Splits::default();
        splits.train = vec![example("so good", None, 1), example("é", Some("no"), 0), example("", None, 2)];
        splits.test = vec![example("a", None, 0)];
        let (train, dev, test) = (part("t"), part("d"), part("x"));
        splits.source = SplitIndex { data_sha256: "ab".into(), train, dev, test };
        splits
    }

    #[test]
    fn all_rows_arrive() {
        let (sent, hashes) = (splits(), ["1", "2", "3"].map(String::from));
        let bytes = to_bytes(&sent, &hashes, |_, _| true);
        let Spread { splits: found, hashes: found_hashes } = read_spread(&mut bytes.as_slice()).unwrap();
        assert_eq!(parts(&found), parts(&sent));
        assert_eq!((found_hashes, found.source.data_sha256.as_str()), (Some(hashes), "ab"));
        assert_eq!([&found.source.train.split, &found.source.test.split], ["t", "x"]);
        for cut in 0..bytes.len() {
            assert!(read_spread(&mut &bytes[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn other_ranks_have_labels_without_texts() {
        let hashes = ["", "", ""].map(String::from);
        for rank in 0..5 {
            let bytes = to_bytes(&splits(), &hashes, |rows, row| owns(rows, row, rank, 5));
            let found = read_spread(&mut bytes.as_slice()).unwrap().splits;
            let labels = |part: &[Example]| part.iter().map(|row| row.label).collect::<Vec<_>>();
            assert_eq!(labels(&found.train), [1, 0, 2]);
            for (row, example) in found.train.iter().enumerate() {
                let expected = if row == rank { splits().train[row].clone() } else { example.clone() };
                assert_eq!(*example, expected);
                assert!(row == rank || example.texts().all(|text| text.is_empty()));
            }
        }
    }

    #[test]
    fn shares_are_those_of_shards() {
        for rows in 0..12 {
            let all: Vec<usize> = (0..rows).collect();
            for size in 1..6 {
                for rank in 0..size {
                    let expected = shard(&all, rank, size).unwrap();
                    let found: Vec<usize> = (0..rows).filter(|&row| owns(rows, row, rank, size)).collect();
                    assert_eq!(found, expected, "{rows} rows, rank {rank} of {size}");
                }
            }
        }
    }
}
