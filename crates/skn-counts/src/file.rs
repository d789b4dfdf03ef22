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

use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::path::Path;

use skn_artifact::names::{key, schema};
use skn_artifact::{Array, TensorBundle, TensorFile};

use crate::error::{CountsError, Result};
use crate::performance::{ByClass, MAX_TEXTS, Performance};
use crate::pool::Pool;

impl Performance {
    /// The file `dev_perf` and the like: `accuracy` F32, `correct` I64, `true_positive` I64, `positives` I64 (`[1]`, the texts
    /// of class 1; of more than two classes `[C]`), `total` I64 `[1]`, and `dead` BOOL of the shape of one class where it is
    /// known; with what it says of itself.
    ///
    /// With `dead` the form is the third (`skn.schema`). Of two classes it else is the second: the first had neither
    /// `true_positive` nor `positives`, and is written again only for counts that were read without them.
    ///
    /// # Errors
    /// If the header can't be made.
    pub fn to_bundle(&self, metadata: &BTreeMap<String, String>) -> Result<TensorBundle> {
        let mut bundle = TensorBundle::new();
        for (name, value) in metadata {
            bundle.describe(name, value);
        }
        if let Some(pool) = self.pool {
            bundle.describe(key::KIND, pool.performance_kind());
        }
        // Arrays are as wide as the widest layer: whoever selects must know where a pruned layer ends.
        if self.widths.iter().any(|&width| width != self.neurons()) {
            bundle.describe(key::WIDTHS, key::widths_text(&self.widths));
        }
        bundle.insert("accuracy", Array::f32(self.shape(), self.accuracy())?);
        bundle.insert("correct", Array::i64(self.shape(), self.correct.clone())?);
        bundle.insert("total", Array::i64(vec![1], vec![self.total])?);
        if let Some(counted) = &self.by_class {
            bundle.insert("true_positive", Array::i64(self.shape(), counted.true_positive.clone())?);
            bundle.insert("positives", Array::i64(vec![self.rules()], counted.positives.clone())?);
            if !self.is_one_vs_rest() {
                bundle.in_schema(schema::COUNTS_BY_CLASS);
            }
        }
        if let Some(dead) = &self.dead {
            bundle.insert("dead", Array::bool(self.dims.clone(), dead.clone())?);
            bundle.in_schema(schema::COUNTS_WITH_DEAD);
        }
        Ok(bundle)
    }

    /// Reads a file of counts.
    ///
    /// `correct` is I64 `[L, P, F]`, or `[L, F]` where a text's activations were pooled; `total` I64 `[1]`.
    /// `true_positive` I64 has the same shape, and `positives` is I64 `[1]`. With `positives` I64 `[C]`, of more than two classes,
    /// `correct` and `true_positive` have `C` before that. Files of two classes from older versions have neither. `dead` is BOOL
    /// `[L, P, F]` or `[L, F]`, of any number of classes.
    ///
    /// # Errors
    /// If the file is of another kind or shape, has no texts or more than 2^32 - 1, lacks a tensor that its form has, holds
    /// counts that can't be (below 0, above the number of texts, or `true_positive` that does not fit the others), or says
    /// widths that do not fit.
    pub fn read(file: &TensorFile) -> Result<Self> {
        let (path, pool) = (file.path(), pool(file)?);
        let (_, total) = file.i64("total", Some(&[1]))?;
        let total = total.first().copied().unwrap_or(0);
        if !(1..=MAX_TEXTS).contains(&total) {
            return Err(CountsError::file(path, "tensor `total`", format!("1 to {MAX_TEXTS}"), total));
        }
        let (shape, correct) = file.i64("correct", None)?;
        let by_class = by_class(file, &shape)?;
        let one_vs_rest = by_class.as_ref().is_some_and(|counted| counted.positives.len() > 1);
        let (_, dims) = shape.split_at(usize::from(one_vs_rest).min(shape.len()));
        let fits = match pool {
            Some(pool) => dims.len() == if pool.is_of_text() { 2 } else { 3 },
            None => (2..=3).contains(&dims.len()),
        };
        if !fits || shape.contains(&0) || dims.last().is_some_and(|&width| i32::try_from(width).is_err()) {
            return Err(wrong_shape(path, pool, one_vs_rest, &shape));
        }
        let (Some(&layers), Some(&widest)) = (dims.first(), dims.last()) else {
            return Err(wrong_shape(path, pool, one_vs_rest, &shape));
        };
        let widths = widths(file, layers, widest)?;
        // Only of pooled activations there are two kinds.
        let pool = pool.or((dims.len() == 3).then_some(Pool::Position));
        let dead = dead(file, dims)?;
        let (file_read, dims) = (path.into(), dims.to_vec());
        let read = Self { file: file_read, pool, dims, widths, correct, by_class, dead, total, areas: None };
        read.check(file)?;
        Ok(read)
    }

    fn check(&self, file: &TensorFile) -> Result<()> {
        self.check_range("correct", &self.correct, self.total)?;
        self.check_accuracy(file)?;
        let Some(counted) = &self.by_class else { return Ok(()) };
        self.check_range("positives", &counted.positives, self.total)?;
        let sum: i128 = counted.positives.iter().map(|&count| i128::from(count)).sum();
        if self.is_one_vs_rest() && sum != i128::from(self.total) {
            let expected = format!("a sum of {}, the total", self.total);
            return Err(CountsError::file(&self.file, "tensor `positives`", expected, sum));
        }
        self.check_range("true_positive", &counted.true_positive, self.total)?;
        let each = self.correct.len() / counted.positives.len();
        let positives = counted.positives.iter().flat_map(|&count| repeat_n(count, each));
        let counts = self.correct.iter().zip(&counted.true_positive).zip(positives);
        for (place, ((&correct, &hit), positives)) in counts.enumerate() {
            // What is right besides is of the rest.
            if hit > positives || !(0..=self.total - positives).contains(&(correct - hit)) {
                let expected = format!("a count that fits {correct} right and {positives} of the class");
                let place = format!("tensor `true_positive`, element {place}");
                return Err(CountsError::file(&self.file, place, expected, hit));
            }
        }
        if self.is_one_vs_rest() { self.check_classes(counted, each) } else { Ok(()) }
    }

    /// Each class's counts say for how many texts a neuron fires, and the hits of all classes together do.
    fn check_classes(&self, counted: &ByClass, each: usize) -> Result<()> {
        let mut fires = vec![0; each];
        for of_class in counted.true_positive.chunks_exact(each) {
            fires.iter_mut().zip(of_class).for_each(|(fires, hit)| *fires += hit);
        }
        let positives = counted.positives.iter().flat_map(|&count| repeat_n(count, each));
        let counts = self.correct.iter().zip(&counted.true_positive).zip(positives);
        for (place, (((&correct, &hit), positives), &fires)) in counts.zip(fires.iter().cycle()).enumerate() {
            let says = self.total - positives - correct + 2 * hit;
            if says != fires {
                let expected =
                    format!("a count of a neuron that fires for {fires} texts, as all classes say");
                let place = format!("tensor `correct`, element {place}");
                return Err(CountsError::file(
                    &self.file,
                    place,
                    expected,
                    format!("{correct}, so for {says}"),
                ));
            }
        }
        Ok(())
    }

    /// The shares that a file has beside its counts are those of its counts.
    fn check_accuracy(&self, file: &TensorFile) -> Result<()> {
        if !file.contains("accuracy") {
            return Ok(());
        }
        let (_, found) = file.f32("accuracy", Some(&self.shape()))?;
        let expected = self.accuracy();
        let other = |(_, (expected, found)): &(usize, (&f32, &f32))| expected.to_bits() != found.to_bits();
        match expected.iter().zip(&found).enumerate().find(other) {
            None => Ok(()),
            Some((place, (expected, found))) => {
                let expected = format!("{expected}, the share of `correct`");
                let place_in = format!("tensor `accuracy`, element {place}");
                Err(CountsError::file(&self.file, place_in, expected, found))
            }
        }
    }

    fn check_range(&self, tensor: &str, counts: &[i64], most: i64) -> Result<()> {
        match counts.iter().enumerate().find(|(_, count)| !(0..=most).contains(*count)) {
            None => Ok(()),
            Some((place, count)) => {
                let expected = format!("0 to {most}, the total");
                let place_in = format!("tensor `{tensor}`, element {place}");
                Err(CountsError::file(&self.file, place_in, expected, count))
            }
        }
    }
}

/// What was taken of a text's activations, if the file says so.
fn pool(file: &TensorFile) -> Result<Option<Pool>> {
    let Some(found) = file.metadata().get(key::KIND) else { return Ok(None) };
    let known = Pool::ALL.into_iter().find(|pool| pool.performance_kind() == found);
    known.map(Some).ok_or_else(|| {
        let expected = format!("one of {}", Pool::ALL.map(Pool::performance_kind).join(", "));
        CountsError::file(file.path(), format!("metadata {}", key::KIND), expected, found)
    })
}

/// What a file counts by class, beside `correct` of a shape. `positives` says of how many classes.
fn by_class(file: &TensorFile, shape: &[usize]) -> Result<Option<ByClass>> {
    let promised =
        [schema::COUNTS_BY_CLASS, schema::COUNTS_WITH_DEAD].into_iter().any(|form| is_in(file, form));
    if !promised && !["positives", "true_positive"].iter().any(|name| file.contains(name)) {
        return Ok(None);
    }
    let (of, positives) = file.i64("positives", None)?;
    let (_, true_positive) = file.i64("true_positive", Some(shape))?;
    let classes = shape.first().copied().unwrap_or(1);
    // Two numbers could be both classes' of one rule as well.
    if of != [1] && (of != [classes] || classes < 3) {
        let expected = "shape [1], the texts of class 1 of two, or [classes], three or more";
        return Err(CountsError::file(file.path(), "tensor `positives`", expected, format!("{of:?}")));
    }
    Ok(Some(ByClass { true_positive, positives }))
}

/// Whether a file says that it has this form.
fn is_in(file: &TensorFile, form: u32) -> bool {
    file.metadata().get(key::SCHEMA) == Some(&form.to_string())
}

/// Which neurons a file says are dead, beside `correct` of dimensions but for the classes.
fn dead(file: &TensorFile, dims: &[usize]) -> Result<Option<Vec<bool>>> {
    if !is_in(file, schema::COUNTS_WITH_DEAD) && !file.contains("dead") {
        return Ok(None);
    }
    Ok(Some(file.bool("dead", Some(dims))?.1))
}

/// The neurons of each layer: what the file says, else as many in each as the arrays have.
fn widths(file: &TensorFile, layers: usize, widest: usize) -> Result<Vec<usize>> {
    let Some(text) = file.metadata().get(key::WIDTHS) else { return Ok(vec![widest; layers]) };
    let widths: Option<Vec<usize>> = text.split(',').map(|width| width.parse().ok()).collect();
    let fits = |widths: &Vec<usize>| widths.len() == layers && widths.iter().all(|&width| width <= widest);
    widths.filter(fits).ok_or_else(|| {
        let expected = format!("{layers} numbers with commas between, none above {widest}");
        CountsError::file(file.path(), format!("metadata {}", key::WIDTHS), expected, format!("{text:?}"))
    })
}

fn wrong_shape(file: &Path, pool: Option<Pool>, classes: bool, found: &[usize]) -> CountsError {
    let classes = if classes { "classes, " } else { "" };
    let expected = match pool.map(Pool::is_of_text) {
        Some(false) => format!("shape [{classes}layers, positions, neurons]"),
        Some(true) => format!("shape [{classes}layers, neurons]"),
        None => format!("shape [{classes}layers, positions, neurons] or [{classes}layers, neurons]"),
    };
    CountsError::file(file, "tensor `correct`", expected + ", none 0", format!("{found:?}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) type Tensors<'a> = &'a [(&'a str, &'a [usize], &'a [i64])];

    pub(crate) const TOTAL: (&str, &[usize], &[i64]) = ("total", &[1], &[4]);

    /// A file of some tensors, with metadata.
    pub(crate) fn described(metadata: &[(&str, &str)], tensors: Tensors<'_>) -> Result<Performance> {
        let mut bundle = TensorBundle::new();
        for (name, shape, values) in tensors {
            bundle.insert(*name, Array::i64(shape.to_vec(), values.to_vec()).unwrap());
        }
        for (name, value) in metadata {
            bundle.describe(*name, *value);
        }
        Performance::read(&TensorFile::from_bytes("a/dev_perf".as_ref(), bundle.to_bytes().unwrap()).unwrap())
    }

    pub(crate) fn read(kind: Option<&str>, tensors: Tensors<'_>) -> Result<Performance> {
        match kind {
            Some(kind) => described(&[(key::KIND, kind)], tensors),
            None => described(&[], tensors),
        }
    }

    #[test]
    fn files_are_read_back() {
        let correct = ("correct", &[1, 2][..], &[3, 1][..]);
        let older = described(&[("skn.kind", "mean_perf"), ("skn.widths", "1")], &[correct, TOTAL]).unwrap();
        assert_eq!(older.widths(), [1]);
        let (hits, positives) =
            (("true_positive", &[1, 2][..], &[2, 1][..]), ("positives", &[1][..], &[2][..]));
        let two = read(Some("mean_perf"), &[correct, hits, positives, TOTAL]).unwrap();
        let counted = two.by_class().unwrap();
        assert_eq!((two.shape(), two.classes(), two.rules()), (vec![1, 2], 2, 1));
        assert_eq!((&counted.true_positive[..], &counted.positives[..]), (&[2, 1][..], &[2][..]));
        let three = read(
            Some("max_perf"),
            &[
                ("correct", &[3, 1, 1], &[3, 2, 3]),
                ("true_positive", &[3, 1, 1], &[0, 0, 0]),
                ("positives", &[3], &[1, 2, 1]),
                TOTAL,
            ],
        )
        .unwrap();
        for (performance, schema) in [(older, "1"), (two, "2"), (three, "1")] {
            let metadata = BTreeMap::from([("skn.split".to_owned(), "dev".to_owned())]);
            let bytes = performance.to_bundle(&metadata).unwrap().to_bytes().unwrap();
            let file = TensorFile::from_bytes("dev_perf.safetensors".as_ref(), bytes).unwrap();
            assert_eq!(Performance::read(&file).unwrap(), performance);
            assert_eq!(file.metadata()["skn.split"], "dev");
            assert_eq!(file.metadata()["skn.schema"], schema);
            assert_eq!(
                file.metadata().contains_key("skn.widths"),
                performance.widths() != [performance.neurons()]
            );
            let names: Vec<_> = file.names().collect();
            let expected: &[&str] = match performance.by_class() {
                Some(_) => &["accuracy", "correct", "positives", "total", "true_positive"],
                None => &["accuracy", "correct", "total"],
            };
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_form_is_held_to_what_it_promises() {
        let mut bundle = TensorBundle::new();
        bundle.insert("correct", Array::i64(vec![1, 1], vec![2]).unwrap());
        bundle.insert("total", Array::i64(vec![1], vec![4]).unwrap());
        let read = |bundle: &TensorBundle| {
            Performance::read(
                &TensorFile::from_bytes("dev_perf".as_ref(), bundle.to_bytes().unwrap()).unwrap(),
            )
        };
        assert_eq!(read(&bundle).unwrap().by_class(), None, "an older version's");
        for form in [schema::COUNTS_BY_CLASS, schema::COUNTS_WITH_DEAD] {
            let message = read(bundle.in_schema(form)).unwrap_err().to_string();
            assert!(message.contains("dev_perf: tensor `positives`"), "{message}");
        }
        bundle.insert("true_positive", Array::i64(vec![1, 1], vec![1]).unwrap());
        bundle.insert("positives", Array::i64(vec![1], vec![2]).unwrap());
        let message = read(bundle.in_schema(schema::COUNTS_WITH_DEAD)).unwrap_err().to_string();
        assert!(message.contains("dev_perf: tensor `dead`"), "{message}");
        bundle.insert("dead", Array::bool(vec![1], vec![true]).unwrap());
        let message = read(&bundle).unwrap_err().to_string();
        assert!(message.contains("`dead`: expected shape [1, 1], found shape [1]"), "{message}");
        bundle.insert("dead", Array::bool(vec![1, 1], vec![true]).unwrap());
        let found = read(&bundle).unwrap();
        assert_eq!(found.dead(), Some(&[true][..]));
        let again = found.to_bundle(&BTreeMap::new()).unwrap().to_bytes().unwrap();
        let again = TensorFile::from_bytes("dev_perf".as_ref(), again).unwrap();
        assert_eq!(
            (again.metadata()["skn.schema"].as_str(), Performance::read(&again).unwrap()),
            ("3", found)
        );
    }

    #[test]
    fn the_shape_says_what_was_counted() {
        let correct: (&str, &[usize], &[i64]) = ("correct", &[2, 2, 2], &[1, 2, 2, 4, 3, 2, 2, 2]);
        for kind in [None, Some("perf")] {
            let found = read(kind, &[correct, TOTAL]).unwrap();
            assert_eq!((found.layers(), found.positions(), found.neurons()), (2, 2, 2));
            assert_eq!((found.classes(), found.total(), found.pool()), (2, 4, Some(Pool::Position)));
            assert!(!found.pooled());
        }
        let pooled = read(Some("max_perf"), &[("correct", &[1, 2], &[1, 2]), TOTAL]).unwrap();
        assert_eq!((pooled.layers(), pooled.positions(), pooled.neurons()), (1, 1, 2));
        assert!(pooled.pooled());
        let silent = read(None, &[("correct", &[1, 2], &[1, 2]), TOTAL]).unwrap();
        assert_eq!((silent.pooled(), silent.pool()), (true, None));
    }

    #[test]
    fn files_that_can_not_be_are_refused() {
        let three = |correct: &'static [i64], hit: &'static [i64], positives: &'static [i64]| {
            read(
                None,
                &[
                    ("correct", &[3, 1, 1], correct),
                    ("true_positive", &[3, 1, 1], hit),
                    ("positives", &[3], positives),
                    TOTAL,
                ],
            )
        };
        // Four texts of two classes, and one neuron.
        let two = |correct: i64, hit: i64, positives: i64| {
            let correct: (&str, &[usize], &[i64]) = ("correct", &[1, 1], &[correct]);
            read(
                None,
                &[correct, ("true_positive", &[1, 1], &[hit]), ("positives", &[1], &[positives]), TOTAL],
            )
        };
        assert!(two(2, 2, 3).is_ok() && two(0, 0, 3).is_ok() && two(4, 3, 3).is_ok() && two(2, 0, 2).is_ok());
        let widths = |text| described(&[("skn.widths", text)], &[("correct", &[2, 2], &[0; 4]), TOTAL]);
        assert!(three(&[3, 2, 3], &[0, 0, 0], &[1, 2, 1]).is_ok() && widths("2,0").is_ok());
        let cases = [
            (three(&[3, 2, 3], &[0, 0, 0], &[1, 2, 2]), "sum of 4"),
            (three(&[3, 2, 3], &[0, 0, 0], &[-1, 4, 1]), "0 to 4"),
            (three(&[3, 2, 3], &[2, 0, 0], &[1, 2, 1]), "element 0"),
            (three(&[3, 3, 3], &[0, 0, 0], &[1, 2, 1]), "element 1"),
            (three(&[3, 0, 3], &[0, 1, 0], &[1, 2, 1]), "element 1"),
            (
                three(&[4, 2, 3], &[1, 0, 0], &[1, 2, 1]),
                "`correct`, element 1: expected a count of a neuron that fires for 1",
            ),
            (
                two(3, 3, 2),
                "`true_positive`, element 0: expected a count that fits 3 right and 2 of the class, found 3",
            ),
            (two(1, 2, 3), "`true_positive`, element 0"),
            (two(2, 0, 3), "`true_positive`, element 0"),
            (two(2, -1, 3), "`true_positive`, element 0: expected 0 to 4"),
            (two(2, 0, 5), "`positives`, element 0: expected 0 to 4"),
            (read(None, &[("correct", &[1, 1], &[2]), ("positives", &[1], &[2]), TOTAL]), "`true_positive`"),
            (
                read(None, &[("correct", &[1, 1], &[2]), ("true_positive", &[1, 1], &[1]), TOTAL]),
                "`positives`",
            ),
            (
                read(
                    None,
                    &[
                        ("correct", &[2, 1, 1], &[2, 2]),
                        ("true_positive", &[2, 1, 1], &[1, 1]),
                        ("positives", &[2], &[2, 2]),
                        TOTAL,
                    ],
                ),
                "`positives`: expected shape [1], the texts of class 1 of two",
            ),
            (read(None, &[("correct", &[1, 1], &[5]), TOTAL]), "0 to 4"),
            (read(None, &[("correct", &[1, 1], &[-1]), TOTAL]), "found -1"),
            (read(None, &[("correct", &[1, 1], &[0]), ("total", &[1], &[0])]), "`total`"),
            (read(None, &[("correct", &[1, 1], &[0]), ("total", &[1], &[1 << 40])]), "`total`"),
            (read(None, &[("correct", &[1, 1], &[0])]), "`total`"),
            (
                read(None, &[("correct", &[1], &[0]), TOTAL]),
                "[layers, positions, neurons] or [layers, neurons]",
            ),
            (read(None, &[("correct", &[0, 1], &[]), TOTAL]), "[0, 1]"),
            (read(Some("perf"), &[("correct", &[1, 1], &[0]), TOTAL]), "shape [layers, positions, neurons]"),
            (read(Some("mean_perf"), &[("correct", &[1, 1, 1], &[0]), TOTAL]), "shape [layers, neurons]"),
            (read(Some("mask"), &[("correct", &[1, 1], &[0]), TOTAL]), "found mask"),
            (read(None, &[("correct", &[], &[0]), ("positives", &[], &[0]), TOTAL]), "true_positive"),
            (widths("2"), "skn.widths"),
            (widths("2,3"), "none above 2"),
            (widths("2,x"), "2,x"),
        ];
        for (result, part) in cases {
            let message = result.unwrap_err().to_string();
            assert!(message.contains("a/dev_perf") && message.contains(part), "{message} has no {part}");
        }
    }
}
