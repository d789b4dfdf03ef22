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

use skn_artifact::TensorFile;
use skn_artifact::names::rank;

use crate::error::{Result, SelectError};
use crate::list::{Listed, of_csv, of_json};
use crate::mask::Mask;
use crate::npy;
use crate::share::Share;

/// Neurons that were ranked elsewhere: a file of scores, or a list of neurons.
///
/// - safetensors: `score` F32 `[L, F]`, larger is more of it (`dead` BOOL `[L, F]`: neurons that have none); or `mask` BOOL or U8
///   `[L, F]` alone, which ranks nothing.
/// - `.npy`: bool or u1 `[L, F]` in C order, marks too.
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
    /// Whether it is an array of scores, which says of each neuron its score, or that it has none.
    scored: bool,
    name: Option<String>,
}

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
        } else if is("npy") {
            let mut made = Self::new(path, widths);
            let marks = npy::marks(path, [widths.len(), made.neurons])?;
            made.mark(marks)?;
            return Ok(made);
        } else {
            return Self::of_tensors(path, widths);
        };
        Self::of_list(path, widths, listed)
    }

    /// The mask of a file that was made elsewhere: what it marks, or all neurons that it lists. Marks are ranked by index, listed neurons
    /// as they are listed or by their scores, and what is not marked comes behind, by index: the file says nothing of it.
    ///
    /// # Errors
    /// As [`Self::read`]; and if it is a file of tensors with scores alone, which mark nothing.
    pub fn marks(path: &Path, widths: &[usize]) -> Result<Mask> {
        let mut made = if is_of_tensors(path) {
            let (file, mut made) = (TensorFile::read(path)?, Self::new(path, widths));
            if file.contains("score") && !file.contains("mask") {
                let expected = "marks (tensor `mask`); skn-select --ranking makes masks of scores";
                return Err(SelectError::file(path, "tensor `mask`", expected, "`score` alone"));
            }
            made.mark(tensor_marks(&file, &[widths.len(), made.neurons])?)?;
            made
        } else {
            Self::read(path, widths)?
        };
        made.marks = true;
        made.mask(Share::of_percent(0))
    }

    /// Takes marks `[L, F]`, none of them beyond a layer's width.
    fn mark(&mut self, marks: Vec<bool>) -> Result<()> {
        let rows = marks.chunks_exact(self.neurons.max(1)).zip(&self.widths).zip(&mut self.order);
        for (layer, ((row, &width), order)) in rows.enumerate() {
            let marked = (0u32..).zip(row).filter(|(_, marked)| **marked).map(|(index, _)| index);
            *order = marked.collect();
            if let Some(last) =
                order.last().filter(|&&last| usize::try_from(last).is_ok_and(|last| last >= width))
            {
                let expected = format!("marks below {width}, the neurons of layer {layer}");
                return Err(SelectError::file(
                    &self.file,
                    format!("element [{layer}, {last}]"),
                    expected,
                    "a mark",
                ));
            }
        }
        self.score = marks.iter().map(|&marked| f32::from(u8::from(marked))).collect();
        self.marks = true;
        Ok(())
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
            scored: false,
            name: None,
        }
    }

    fn of_tensors(path: &Path, widths: &[usize]) -> Result<Self> {
        let file = TensorFile::read(path)?;
        let mut made = Self::new(path, widths);
        let shape = [widths.len(), made.neurons];
        made.name = file.metadata().get(rank::RANKING).cloned();
        if !file.contains("score") {
            made.mark(tensor_marks(&file, &shape)?)?;
            return Ok(made);
        }
        let (_, score) = file.f32("score", Some(&shape))?;
        let dead = match file.contains("dead") {
            true => file.bool("dead", Some(&shape))?.1,
            false => vec![false; score.len()],
        };
        let ranked: Vec<bool> = dead.into_iter().map(|dead| !dead).collect();
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
        (made.score, made.scored) = (score, true);
        Ok(made)
    }

    fn of_list(path: &Path, widths: &[usize], listed: Vec<Listed>) -> Result<Self> {
        let mut made = Self::new(path, widths);
        let scored = listed.iter().filter(|listed| listed.score.is_some()).count();
        if scored > 0 && scored < listed.len() {
            let expected = "a score of each neuron, or of none";
            return Err(SelectError::file(path, "scores", expected, format!("{scored} of {}", listed.len())));
        }
        let many = listed.len();
        let mut layers: Vec<Vec<(u32, f32)>> = vec![Vec::new(); widths.len()];
        let mut seen = vec![false; made.score.len()];
        for (number, Listed { place: said, layer, index, score }) in listed.into_iter().enumerate() {
            let wrong = |expected: String| {
                SelectError::file(path, &*said, expected, format!("layer {layer}, index {index}"))
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

    /// Whether it says of every neuron where it stands: an array of scores does (dead neurons come last), a list if all are in it, marks
    /// do not. Of the others a mask's ranks are those of their indices.
    pub fn ranks_all(&self) -> bool {
        let whole = || self.order.iter().zip(&self.widths).all(|(order, &width)| order.len() == width);
        self.scored || (!self.marks && whole())
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

/// Whether a file is one of tensors: all are, but for those that their extension says otherwise of.
fn is_of_tensors(path: &Path) -> bool {
    let is = |form: &&str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(form));
    !["csv", "json", "npy"].iter().any(is)
}

/// `mask` as BOOL, or as U8 of zeros and ones.
fn tensor_marks(file: &TensorFile, shape: &[usize]) -> Result<Vec<bool>> {
    let size = shape.iter().product();
    // Of another type than U8 the other reader says what is wrong.
    let Ok(bytes) = file.u8_range("mask", Some(shape), 0..size) else {
        return Ok(file.bool("mask", Some(shape))?.1);
    };
    match bytes.iter().enumerate().find(|(_, byte)| **byte > 1) {
        None => Ok(bytes.iter().map(|&byte| byte == 1).collect()),
        Some((place, byte)) => {
            Err(SelectError::file(file.path(), format!("tensor `mask`, element {place}"), "0 or 1", byte))
        }
    }
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
    fn some_files_say_nothing_of_some_neurons() {
        let scores = tensors(|bundle| {
            bundle.insert("score", Array::f32(vec![1, 3], vec![0.5, 0.0, 7.0]).unwrap());
            bundle.insert("dead", Array::bool(vec![1, 3], vec![false, true, false]).unwrap());
        });
        let marks = |marks: [bool; 3]| {
            tensors(|bundle| {
                bundle.insert("mask", Array::bool(vec![1, 3], marks.to_vec()).unwrap());
            })
        };
        for (name, bytes, ranks_all) in [
            ("dead.safetensors", scores, true),
            ("some.safetensors", marks([true, false, true]), false),
            ("all.safetensors", marks([true; 3]), false),
            ("all.json", b"[[0,2],[0,0],[0,1]]".to_vec(), true),
            ("some.json", b"[[0,2],[0,0]]".to_vec(), false),
            ("some.csv", b"layer,index,score\n0,2,3\n0,0,1\n".to_vec(), false),
        ] {
            assert_eq!(read(name, &bytes, &[3]).unwrap().ranks_all(), ranks_all, "{name}");
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

    /// A file of numpy's, of version 1.
    fn npy(header: &str, numbers: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), numbers].concat()
    }

    const HEADER: &str = "{'descr': '|b1', 'fortran_order': False, 'shape': (2, 3), }        \n";

    #[test]
    fn all_forms_mark_the_same() {
        let marks = [0, 1, 1, 1, 0, 0];
        let bools = tensors(|bundle| {
            bundle.insert("mask", Array::bool(vec![2, 3], marks.map(|mark| mark == 1).to_vec()).unwrap());
        });
        let bytes = tensors(|bundle| {
            bundle.insert("mask", Array::u8(vec![2, 3], marks.to_vec()).unwrap());
        });
        let long =
            [&b"\x93NUMPY\x02\x00"[..], &(HEADER.len() as u32).to_le_bytes(), HEADER.as_bytes(), &marks]
                .concat();
        let files: [(&str, &[u8]); 8] = [
            ("a.safetensors", &bools),
            ("a", &bytes),
            ("a.npy", &npy(HEADER, &marks)),
            ("b.npy", &npy(&HEADER.replace("|b1", "|u1").replace(", }", "}"), &marks)),
            ("c.npy", &long),
            ("a.csv", b"layer,index,note\n1,0,x\n0,2,\n0,1,\n"),
            ("b.csv", b"neuron,layer,score\n1,0,0.5\n0,1,0.25\n2,0,0.75\n"),
            ("a.json", b"[[0, 1], [0, 2], [1, 0]]"),
        ];
        for (name, bytes) in files {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            write_file(&path, Overwrite::Refuse, bytes).unwrap();
            let mask = MadeRanking::marks(&path, &[3, 2]).unwrap();
            assert_eq!(mask.neurons(), [vec![1, 2], vec![0]], "{name}");
        }
        let listed = read("a.csv", b"layer,index\n0,2\n0,1\n", &[3, 3]).unwrap();
        assert!(!listed.is_mask(), "a list ranks what it lists");
    }

    #[test]
    fn marks_that_can_not_be_are_refused() {
        let marks = [0, 1, 1, 1, 0, 0];
        let of = |header: &str| npy(header, &marks);
        let two = tensors(|bundle| {
            bundle.insert("mask", Array::u8(vec![2, 3], vec![0, 1, 2, 0, 0, 0]).unwrap());
        });
        let scores = tensors(|bundle| {
            bundle.insert("score", Array::f32(vec![2, 3], vec![0.5; 6]).unwrap());
        });
        let numbers = tensors(|bundle| {
            bundle.insert("mask", Array::i32(vec![2, 3], vec![0; 6]).unwrap());
        });
        let cases: [(&str, &[u8], &str); 18] = [
            ("a.safetensors", &two, "tensor `mask`, element 2: expected 0 or 1, found 2"),
            ("a.safetensors", &scores, "skn-select --ranking makes masks of scores, found `score` alone"),
            ("a.safetensors", &numbers, "BOOL"),
            ("a.npy", b"\x93NUMP", "beginning: expected 8 bytes, found 5, and the end"),
            ("a.npy", b"\x93NUMPZ\x01\x00..", "beginning: expected that of a file of numpy.save"),
            ("a.npy", b"\x93NUMPY\x04\x00..", "version: expected 1, 2 or 3, found 4"),
            ("a.npy", b"\x93NUMPY\x02\x00\0\0\x01\0", "header's length: expected less than 65536 bytes"),
            ("a.npy", &of("{}"), "header: expected the keys descr, fortran_order and shape, found"),
            ("a.npy", &of("[1]"), "header: expected {'descr'"),
            ("a.npy", &of(&HEADER.replace("|b1", "<f4")), "header, descr: expected '|b1' or '|u1'"),
            ("a.npy", &of(&HEADER.replace("False", "True")), "header, fortran_order: expected False"),
            (
                "a.npy",
                &of(&HEADER.replace("(2, 3)", "(3, 2)")),
                "header, shape: expected (2, 3), the model's",
            ),
            ("a.npy", &of(&HEADER.replace("(2, 3)", "(6,)")), "header, shape"),
            ("a.npy", &of(&HEADER.replace("(2, 3)", "(2, 3")), "a shape that ends with )"),
            ("a.npy", &of(&HEADER.replace("shape", "descr")), "each once, found \"descr\""),
            ("a.npy", &npy(HEADER, &marks[..5]), "numbers: expected 6 bytes, found 5"),
            ("a.npy", &npy(HEADER, &[0; 7]), "numbers: expected 6 bytes, found more"),
            ("a.npy", &npy(HEADER, &[0, 0, 0, 0, 7, 0]), "element [1, 1]: expected 0 or 1, found 7"),
        ];
        for (name, bytes, part) in cases {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            write_file(&path, Overwrite::Refuse, bytes).unwrap();
            let message = MadeRanking::marks(&path, &[3, 3]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(part), "{message} has no {part}");
        }
        let message = read("a.npy", &npy(HEADER, &[0, 0, 0, 0, 0, 1]), &[3, 2]).unwrap_err().to_string();
        assert!(
            message.contains("element [1, 2]: expected marks below 2, the neurons of layer 1"),
            "{message}"
        );
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
            ("a.csv", b"layer,index\n1,0\n1,0\n", "line 3: expected each neuron once"),
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
