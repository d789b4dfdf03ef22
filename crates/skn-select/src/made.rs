// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use serde_json::Value;
use skn_artifact::names::rank;
use skn_artifact::{ArtifactError, TensorFile, read_json, read_regular};

use crate::error::{Result, SelectError};
use crate::mask::Mask;
use crate::share::Share;

/// Neurons that were ranked elsewhere: a file of scores, or a list of neurons.
///
/// - safetensors: `score` F32 `[L, F]`, larger is more of it (`dead` BOOL `[L, F]`: neurons that have none); or `mask` BOOL
///   `[L, F]` alone, which ranks nothing.
/// - CSV with a header `layer,index[,score]` (`neuron` for `index`; other columns are not read).
/// - JSON: `[[layer, index[, score]], ..]`, or a list of objects with these names.
///
/// A list without scores has the best first.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeRanking {
    file: PathBuf,
    widths: Vec<usize>,
    neurons: usize,
    /// For each layer the neurons that are ranked, best first.
    order: Vec<Vec<u32>>,
    /// `[L, F]`.
    score: Vec<f32>,
    /// Whether they are marked, and not ranked.
    marks: bool,
    name: Option<String>,
}

/// A list of neurons is not larger.
const MOST_BYTES: u64 = 1 << 26;

/// A neuron of a list, and its score where it has one.
type Listed = (usize, usize, Option<f32>);

impl MadeRanking {
    /// Reads a file by its form, of a model whose layers have `widths`.
    ///
    /// # Errors
    /// If it is of no such form, names a neuron that is not there or one twice, holds scores that are no numbers, or has scores
    /// for some neurons of a list alone.
    pub fn read(path: &Path, widths: &[usize]) -> Result<Self> {
        let is =
            |extension: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
        let listed = if is("csv") {
            of_csv(path)?
        } else if is("json") {
            of_json(path)?
        } else {
            return Self::of_tensors(path, widths);
        };
        Self::of_list(path, widths, listed)
    }

    fn new(path: &Path, widths: &[usize]) -> Self {
        let neurons = widths.iter().copied().max().unwrap_or(0);
        Self {
            file: path.into(),
            widths: widths.to_vec(),
            neurons,
            order: vec![Vec::new(); widths.len()],
            score: vec![0.0; widths.len() * neurons],
            marks: false,
            name: None,
        }
    }

    fn of_tensors(path: &Path, widths: &[usize]) -> Result<Self> {
        let file = TensorFile::read(path)?;
        let mut made = Self::new(path, widths);
        let shape = [widths.len(), made.neurons];
        made.name = file.metadata().get(rank::RANKING).cloned();
        made.marks = !file.contains("score");
        let (ranked, score) = if made.marks {
            let (_, mask) = file.bool("mask", Some(&shape))?;
            let score = mask.iter().map(|&marked| f32::from(u8::from(marked))).collect();
            (mask, score)
        } else {
            let (_, score) = file.f32("score", Some(&shape))?;
            let dead = match file.contains("dead") {
                true => file.bool("dead", Some(&shape))?.1,
                false => vec![false; score.len()],
            };
            (dead.into_iter().map(|dead| !dead).collect(), score)
        };
        if let Some((place, bad)) = score.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(SelectError::file(path, format!("tensor `score`, element {place}"), "a number", bad));
        }
        for ((order, &width), (ranked, score)) in made
            .order
            .iter_mut()
            .zip(widths)
            .zip(ranked.chunks_exact(made.neurons.max(1)).zip(score.chunks_exact(made.neurons.max(1))))
        {
            let mut all: Vec<(u32, f32)> = (0..)
                .zip(score)
                .zip(ranked)
                .take(width)
                .filter(|(_, ranked)| **ranked)
                .map(|((index, score), _)| (index, *score))
                .collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            *order = all.into_iter().map(|(index, _)| index).collect();
        }
        made.score = score;
        Ok(made)
    }

    fn of_list(path: &Path, widths: &[usize], listed: Vec<Listed>) -> Result<Self> {
        let mut made = Self::new(path, widths);
        let scored = listed.iter().filter(|(.., score)| score.is_some()).count();
        if scored > 0 && scored < listed.len() {
            let expected = "a score of each neuron, or of none";
            return Err(SelectError::file(path, "scores", expected, format!("{scored} of {}", listed.len())));
        }
        let many = listed.len();
        let mut layers: Vec<Vec<(u32, f32)>> = vec![Vec::new(); widths.len()];
        let mut seen = vec![false; made.score.len()];
        for (number, (layer, index, score)) in listed.into_iter().enumerate() {
            let wrong = |expected: String| {
                SelectError::file(
                    path,
                    format!("neuron {number} of the list"),
                    expected,
                    format!("layer {layer}, index {index}"),
                )
            };
            let Some(&width) = widths.get(layer) else {
                return Err(wrong(format!("a layer below {}", widths.len())));
            };
            let Some(short) = u32::try_from(index).ok().filter(|_| index < width) else {
                return Err(wrong(format!("an index below {width}, the neurons of layer {layer}")));
            };
            // Without scores the first of the list has the most.
            let score = score.unwrap_or((many - number) as f32 / many as f32);
            if !score.is_finite() {
                return Err(wrong("a score that is a number".into()));
            }
            let place = layer * made.neurons + index;
            let (Some(seen), Some(of)) = (seen.get_mut(place), made.score.get_mut(place)) else { continue };
            if std::mem::replace(seen, true) {
                return Err(wrong("each neuron once".into()));
            }
            *of = score;
            if let Some(order) = layers.get_mut(layer) {
                order.push((short, score));
            }
        }
        for (order, mut all) in made.order.iter_mut().zip(layers) {
            // Stable: equals stay in the order of the list.
            all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
            *order = all.into_iter().map(|(index, _)| index).collect();
        }
        Ok(made)
    }

    /// What the file says it is ranked by (`skn.rank`).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether neurons are marked, and not ranked: there is one mask, and no share of it.
    pub fn is_mask(&self) -> bool {
        self.marks
    }

    /// The number of neurons that are ranked, or marked, in each layer.
    pub fn ranked(&self) -> Vec<usize> {
        self.order.iter().map(Vec::len).collect()
    }

    /// The first of each layer, as many as the share of the neurons it has; of a file of marks, what it marks.
    ///
    /// # Errors
    /// If a layer has fewer that are ranked, as the others would be of nobody's choice.
    pub fn mask(&self, share: Share) -> Result<Mask> {
        let size = self.widths.len() * self.neurons;
        let (mut mask, mut rank) = (vec![false; size], vec![0i32; size]);
        for (layer, (order, &width)) in self.order.iter().zip(&self.widths).enumerate() {
            let count = if self.marks { order.len() } else { share.count(width) };
            if count > order.len() {
                let expected = format!("{count} ranked neurons of layer {layer} for share {share}");
                return Err(SelectError::file(&self.file, "ranking", expected, order.len()));
            }
            let mut known = vec![false; self.neurons];
            order.iter().for_each(|&index| {
                known.iter_mut().skip(index as usize).take(1).for_each(|known| *known = true)
            });
            let rest = (0u32..).zip(known).filter(|(_, known)| !known).map(|(index, _)| index);
            for (place, index) in (0i32..).zip(order.iter().copied().chain(rest)) {
                let at = layer * self.neurons + index as usize;
                if let (Some(mask), Some(rank)) = (mask.get_mut(at), rank.get_mut(at)) {
                    *rank = place;
                    *mask = usize::try_from(place).is_ok_and(|place| place < count);
                }
            }
        }
        Ok(Mask::new(self.widths.len(), self.neurons, mask, self.score.clone(), rank))
    }
}

fn of_csv(path: &Path) -> Result<Vec<Listed>> {
    let io = |source| ArtifactError::Io { file: path.into(), operation: "read", source };
    let bytes = read_regular(path, MOST_BYTES).map_err(io)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
    let wrong = |error: csv::Error| {
        let place = format!("line {}", line_of(&bytes, error.position()));
        match error.kind() {
            // What it says itself counts lines otherwise than an editor does.
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                SelectError::file(path, place, format!("{expected_len} values, as the header has"), len)
            }
            csv::ErrorKind::Utf8 { .. } => SelectError::file(path, place, "UTF-8", "other bytes"),
            _ => SelectError::file(path, place, "a line of CSV", error),
        }
    };
    let heads = reader.headers().map_err(wrong)?.clone();
    let column =
        |names: &[&str]| heads.iter().position(|head| names.contains(&head.trim_start_matches('\u{feff}')));
    let (Some(layer), Some(index)) = (column(&["layer"]), column(&["index", "neuron"])) else {
        let found = format!("{:?}", heads.iter().collect::<Vec<_>>().join(","));
        return Err(SelectError::file(path, "line 1", "a header layer,index[,score]", found));
    };
    let score = column(&["score"]);
    let mut listed = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let line = || line_of(&bytes, record.position());
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let whole = |column: usize| {
            let bad = || {
                SelectError::file(
                    path,
                    format!("line {}", line()),
                    "whole numbers from 0",
                    format!("{:?}", cell(column)),
                )
            };
            cell(column).parse::<usize>().map_err(|_| bad())
        };
        let score = score.map(cell).filter(|text| !text.is_empty()).map(|text| {
            let bad = |_| SelectError::file(path, format!("line {}", line()), "a score", format!("{text:?}"));
            text.parse::<f32>().map_err(bad)
        });
        listed.push((whole(layer)?, whole(index)?, score.transpose()?));
    }
    Ok(listed)
}

/// The line on which a record begins, as an editor counts it. The csv library's own count is one less behind `\r\n`, and its
/// record may begin with what ends the line before.
fn line_of(bytes: &[u8], start: Option<&csv::Position>) -> usize {
    let start = start.map_or(0, |start| usize::try_from(start.byte()).unwrap_or(usize::MAX));
    let ends = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    let blank = bytes.iter().skip(start).take_while(ends).count();
    1 + bytes.iter().take(start.saturating_add(blank)).filter(|byte| **byte == b'\n').count()
}

fn of_json(path: &Path) -> Result<Vec<Listed>> {
    let value: Value = read_json(path)?;
    let Value::Array(all) = value else {
        return Err(SelectError::file(path, "JSON", "a list of [layer, index] or of objects", "no list"));
    };
    let neuron = |(number, value): (usize, &Value)| {
        let parts: Vec<Option<&Value>> = match value {
            Value::Array(parts) if (2..=3).contains(&parts.len()) => {
                (0..3).map(|part| parts.get(part)).collect()
            }
            Value::Object(parts) => {
                let index = parts.get("index").or_else(|| parts.get("neuron"));
                vec![parts.get("layer"), index, parts.get("score")]
            }
            _ => Vec::new(),
        };
        let part = |place: usize| parts.get(place).copied().flatten();
        let whole = |place: usize| {
            part(place).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
        };
        #[allow(clippy::cast_possible_truncation, reason = "a score is rounded as in a file of tensors")]
        let score =
            part(2).filter(|score| !score.is_null()).map(|score| score.as_f64().map(|score| score as f32));
        match (whole(0), whole(1), score) {
            (Some(layer), Some(index), None) => Ok((layer, index, None)),
            (Some(layer), Some(index), Some(Some(score))) => Ok((layer, index, Some(score))),
            _ => {
                let expected = "[layer, index], [layer, index, score] or an object with these names";
                Err(SelectError::file(path, format!("neuron {number} of the list"), expected, value))
            }
        }
    };
    all.iter().enumerate().map(neuron).collect()
}

#[cfg(test)]
mod tests {
    use skn_artifact::{Array, Overwrite, TensorBundle, write_file};

    use super::*;

    fn read(name: &str, bytes: &[u8], widths: &[usize]) -> Result<MadeRanking> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write_file(&path, Overwrite::Refuse, bytes).unwrap();
        MadeRanking::read(&path, widths)
    }

    fn tensors(insert: impl FnOnce(&mut TensorBundle)) -> Vec<u8> {
        let mut bundle = TensorBundle::new();
        insert(&mut bundle);
        bundle.to_bytes().unwrap()
    }

    fn neurons(made: &MadeRanking, share: &str) -> Vec<Vec<u32>> {
        made.mask(share.parse().unwrap()).unwrap().neurons()
    }

    #[test]
    fn all_forms_say_the_same() {
        let score = vec![0.5, -2.0, 7.0, 0.0, 3.0, 3.0, 9.0, 1.0];
        let bytes = tensors(|bundle| {
            bundle.insert("score", Array::f32(vec![2, 4], score).unwrap());
            bundle.describe("skn.rank", "cett");
        });
        let file = read("a.safetensors", &bytes, &[4, 3]).unwrap();
        assert_eq!((file.name(), file.is_mask(), file.ranked()), (Some("cett"), false, vec![4, 3]));
        assert_eq!(
            neurons(&file, "0.5"),
            [vec![0, 2], vec![2]],
            "what is beyond a layer's width is no neuron"
        );
        let csv = b"name,layer,neuron,score\n\"a,b\",0,2,7\nx,0,0,0.5\nx,0,3,0\nx,0,1,-2\nx,1,2,9\nx,1,0,3\nx,1,1,3\n";
        let json = b"[[1,2,9],[0,2,7],[1,0,3],[1,1,3],[0,0,0.5],[0,3,0],[0,1,-2]]";
        let objects =
            br#"[{"layer":0,"index":2},{"layer":1,"index":2},{"layer":0,"neuron":0},{"layer":1,"index":0},
            {"layer":1,"index":1},{"layer":0,"index":3},{"layer":0,"index":1}]"#;
        for (name, bytes) in [("a.csv", &csv[..]), ("a.json", json), ("b.JSON", objects)] {
            let found = read(name, bytes, &[4, 3]).unwrap();
            assert_eq!(found.order, file.order, "{name}");
            let rank = |made: &MadeRanking| made.mask("0.5".parse().unwrap()).unwrap().rank().to_vec();
            assert_eq!(rank(&found), rank(&file), "{name}");
        }
    }

    #[test]
    fn marks_are_kept_as_they_are() {
        let marks = vec![false, true, true, false, false, false];
        let bytes = tensors(|bundle| {
            bundle.insert("mask", Array::bool(vec![2, 3], marks.clone()).unwrap());
        });
        let made = read("a.safetensors", &bytes, &[3, 3]).unwrap();
        assert_eq!((made.is_mask(), neurons(&made, "0.0")), (true, vec![vec![1, 2], vec![]]));
    }

    #[test]
    fn what_nobody_ranked_is_not_chosen() {
        let made = read("a.csv", b"layer,index\n0,3\n0,1\n1,0\n1,2\n", &[4, 4]).unwrap();
        assert_eq!(neurons(&made, "0.25"), [[3], [0]]);
        assert_eq!(neurons(&made, "0.5"), [[1, 3], [0, 2]]);
        let message = made.mask("0.75".parse().unwrap()).unwrap_err().to_string();
        assert!(
            message.contains("a.csv: ranking: expected 3 ranked neurons of layer 0 for share 0.75, found 2"),
            "{message}"
        );
    }

    #[test]
    fn lists_that_can_not_be_are_refused() {
        let cases: [(&str, &[u8], &str); 14] = [
            ("a.csv", b"layer,score\n0,1\n", "a header layer,index[,score]"),
            ("a.csv", b"layer,index\n0,x\n", "line 2: expected whole numbers from 0, found \"x\""),
            ("a.csv", b"layer,index\n0,-1\n", "line 2"),
            ("a.csv", b"layer,index\r\n0,1\r\n0,x\r\n", "line 3: expected whole numbers"),
            (
                "a.csv",
                b"layer,index\r\n0,1\r\n0\r\n",
                "line 3: expected 2 values, as the header has, found 1",
            ),
            ("a.csv", b"layer,index\n\n0,1\n\n0,x\n", "line 5: expected whole numbers"),
            ("a.csv", b"layer,index\n2,0\n", "expected a layer below 2, found layer 2, index 0"),
            ("a.csv", b"layer,index\n1,3\n", "an index below 3, the neurons of layer 1"),
            ("a.csv", b"layer,index\n1,0\n1,0\n", "neuron 1 of the list: expected each neuron once"),
            (
                "a.csv",
                b"layer,index,score\n1,0,1\n1,1,\n",
                "a score of each neuron, or of none, found 1 of 2",
            ),
            ("a.csv", b"layer,index,score\n1,0,nan\n", "a score that is a number"),
            ("a.json", b"{}", "a list of [layer, index]"),
            ("a.json", b"[[0]]", "neuron 0 of the list"),
            ("a.json", b"[[0,1.5]]", "neuron 0 of the list"),
        ];
        for (name, bytes, part) in cases {
            let message = read(name, bytes, &[4, 3]).unwrap_err().to_string();
            assert!(message.contains(part), "{message} has no {part}");
        }
        let bytes = tensors(|bundle| {
            bundle.insert("score", Array::f32(vec![1, 2], vec![0.0, f32::NAN]).unwrap());
        });
        assert!(
            read("a.safetensors", &bytes, &[2])
                .unwrap_err()
                .to_string()
                .contains("element 1: expected a number")
        );
        assert!(read("a.safetensors", &bytes, &[3]).unwrap_err().to_string().contains("shape [1, 3]"));
    }
}
