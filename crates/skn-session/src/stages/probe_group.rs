//! What the processes of a group took of their shares of the texts, put together as shards are.

use std::any::Any;
use std::path::Path;

use skn_artifact::TensorFile;
use skn_artifact::names::key;
use skn_probing::{Average, Group, Kinds, Metadata, ProbingError, Ranked, Ranking, Record};

use crate::error::Result;
use crate::options::Shard;

/// What was taken of the texts of a pass: a file's name without extension, and what it holds.
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) record: Box<dyn Record>,
}

/// Of several processes rank 0 gets what all took together; the others get the averages, which they compare with, and nothing else.
///
/// # Errors
/// If a process is gone, or what it took can't be added.
pub(super) fn together(
    group: &dyn Group,
    kinds: &Kinds,
    metadata: &Metadata,
    mine: Vec<Taken>,
) -> Result<Vec<Taken>> {
    if group.size() == 1 {
        return Ok(mine);
    }
    let mut metadata = metadata.clone();
    // So that a ranking is told by its sums.
    metadata.insert(key::SHARD.into(), Shard { index: group.rank() + 1, count: group.size() }.to_string());
    let (mut all, bytes) = match group.is_first() {
        true => (mine, Vec::new()),
        false => (Vec::new(), to_bytes(&mine, &metadata)?),
    };
    let (mut rank, mut wrong) = (0, None);
    group
        .gather(bytes, &mut |bytes| {
            let name = format!("rank {rank}");
            rank += 1;
            let added = read(&name, &bytes, kinds).and_then(|part| add(&mut all, part));
            added.map_err(|error| {
                wrong = Some(error);
                broken()
            })
        })
        .map_err(|error| wrong.take().unwrap_or(error.into()))?;
    let averages = group.broadcast(to_bytes(all.iter().filter(|taken| is_average(taken)), &metadata)?)?;
    if group.is_first() { Ok(all) } else { read("rank 0", &averages, kinds) }
}

fn is_average(taken: &Taken) -> bool {
    let any: &dyn Any = taken.record.as_ref();
    any.is::<Average>()
}

/// Adds what the next ranks took, whose texts stand behind those here.
fn add(all: &mut Vec<Taken>, part: Vec<Taken>) -> Result<()> {
    // Of more processes than texts some took nothing.
    if all.is_empty() {
        *all = part;
        return Ok(());
    }
    for Taken { name, record } in part {
        let whole = all.iter_mut().find(|whole| whole.name == name).ok_or_else(broken)?;
        whole.record.merge(record.as_ref())?;
    }
    Ok(())
}

/// For each file its name and its bytes, each with its length before it.
fn to_bytes<'t>(taken: impl IntoIterator<Item = &'t Taken>, metadata: &Metadata) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for Taken { name, record } in taken {
        let file = record.to_bundle(metadata)?.to_bytes()?;
        for part in [name.as_bytes(), &file] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    Ok(bytes)
}

fn read(from: &str, mut bytes: &[u8], kinds: &Kinds) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    while !bytes.is_empty() {
        let name = String::from_utf8_lossy(next(&mut bytes)?).into_owned();
        let file = next(&mut bytes)?.to_vec();
        let file = TensorFile::from_bytes(Path::new(&format!("{name} of {from}")), file)?;
        taken.push(Taken { name, record: kinds.read(&file)? });
    }
    Ok(taken)
}

fn next<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| broken())?;
    let (part, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
    *bytes = rest;
    Ok(part)
}

/// Rankings of all texts, which rank 0 has, as every process needs them to select the best neurons: their scores, and which neurons
/// are dead.
///
/// # Errors
/// If a process is gone.
pub(super) fn spread_ranked(group: &dyn Group, ranked: &mut Vec<(Ranking, Ranked)>) -> Result<()> {
    if group.size() == 1 {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for (ranking, of) in ranked.iter() {
        let score: Vec<u8> = of.score.iter().flat_map(|score| score.to_le_bytes()).collect();
        let dead: Vec<u8> = of.dead.iter().map(|&dead| u8::from(dead)).collect();
        for part in [ranking.name().as_bytes(), &score, &dead] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    let bytes = group.broadcast(bytes)?;
    if group.is_first() {
        return Ok(());
    }
    ranked.clear();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let name = String::from_utf8_lossy(next(&mut rest)?).into_owned();
        let score = next(&mut rest)?.as_chunks().0.iter().map(|score| f32::from_le_bytes(*score)).collect();
        let dead = next(&mut rest)?.iter().map(|&dead| dead == 1).collect();
        ranked.push((name.parse().map_err(|_| broken())?, Ranked::of_scores(score, dead)));
    }
    Ok(())
}

fn broken() -> ProbingError {
    ProbingError::Mismatch {
        what: "group of processes".into(),
        expected: "the same statistics from each".into(),
        found: "others".into(),
    }
}
