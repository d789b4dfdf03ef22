//! Marks in a file of numpy's (`numpy.save`; NEP 1, "A Simple File Format for NumPy Arrays").

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

use std::io::Read;
use std::path::Path;

use skn_artifact::{ArtifactError, open_regular};

use crate::error::{Result, SelectError};

/// What such a file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads `[L, F]` yes-or-no values: of type bool or u1, each 0 or 1, in C order.
pub(crate) fn marks(path: &Path, shape: [usize; 2]) -> Result<Vec<bool>> {
    let io = |source| ArtifactError::Io { file: path.into(), operation: "read", source };
    let mut file = open_regular(path).map_err(io)?;
    let wrong = |place: &str, expected: &str, found: String| SelectError::file(path, place, expected, found);
    let mut take = |count: usize, place: &str| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(count).unwrap_or(u64::MAX);
        (&mut file).take(limit).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() < count {
            let found = format!("{}, and the end of the file", bytes.len());
            return Err(wrong(place, &format!("{count} bytes"), found));
        }
        Ok(bytes)
    };
    let start = take(8, "beginning")?;
    let Some(&[major, _]) = start.strip_prefix(MAGIC) else {
        return Err(wrong("beginning", "that of a file of numpy.save", format!("{start:?}")));
    };
    let length = match major {
        1 => {
            take(2, "header's length")?.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte))
        }
        2 | 3 => {
            let bytes = take(4, "header's length")?;
            match bytes.as_slice() {
                // A header of three numbers needs no more.
                &[low, high, 0, 0] => usize::from(low) | usize::from(high) << 8,
                _ => {
                    return Err(wrong(
                        "header's length",
                        "less than 65536 bytes",
                        format!("{bytes:?}, lowest first"),
                    ));
                }
            }
        }
        _ => return Err(wrong("version", "1, 2 or 3", major.to_string())),
    };
    let header = take(length, "header")?;
    check_header(path, &header, shape)?;
    let [layers, neurons] = shape;
    let bytes = take(layers.saturating_mul(neurons), "numbers")?;
    let mut more = [0];
    if file.read(&mut more).map_err(io)? > 0 {
        let expected = format!("{} bytes", layers.saturating_mul(neurons));
        return Err(wrong("numbers", &expected, "more".into()));
    }
    match bytes.iter().position(|&byte| byte > 1) {
        None => Ok(bytes.into_iter().map(|byte| byte == 1).collect()),
        Some(place) => {
            let found = bytes.get(place).copied().unwrap_or_default();
            let element = format!("element [{}, {}]", place / neurons.max(1), place % neurons.max(1));
            Err(wrong(&element, "0 or 1", found.to_string()))
        }
    }
}

/// The header is a dictionary as Python writes it: `{'descr': '|b1', 'fortran_order': False, 'shape': (4, 512), }`.
fn check_header(path: &Path, header: &[u8], shape: [usize; 2]) -> Result<()> {
    let text = String::from_utf8_lossy(header);
    let whole = text.trim_end_matches(['\n', ' ']);
    let wrong = |place: &str, expected: String, found: &str| {
        let found: String = found.chars().take(80).collect();
        Err(SelectError::file(path, format!("header{place}"), expected, format!("{found:?}")))
    };
    let inner = whole.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inner) = inner else {
        return wrong("", "{'descr': .., 'fortran_order': .., 'shape': (..), }".into(), whole);
    };
    let mut found = [None; 3];
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let key = rest.strip_prefix('\'').and_then(|text| text.split_once('\''));
        let Some((key, behind)) =
            key.and_then(|(key, text)| Some((key, text.trim_start().strip_prefix(':')?.trim_start())))
        else {
            return wrong("", "a key in single quotes with : behind it".into(), rest);
        };
        // The shape has commas within.
        let end = match behind.strip_prefix('(') {
            Some(inside) => inside.find(')').map(|end| end + 2),
            None => Some(behind.find(',').unwrap_or(behind.len())),
        };
        let Some((value, behind)) = end.and_then(|end| behind.split_at_checked(end)) else {
            return wrong("", "a shape that ends with )".into(), behind);
        };
        let place = ["descr", "fortran_order", "shape"].iter().position(|known| *known == key);
        match place.and_then(|place| found.get_mut(place)) {
            Some(of @ None) => *of = Some(value.trim()),
            _ => return wrong("", "the keys descr, fortran_order and shape, each once".into(), key),
        }
        rest = behind.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(behind) => behind.trim_start(),
            None if rest.is_empty() => rest,
            None => return wrong("", "a comma behind each value".into(), rest),
        };
    }
    let [Some(descr), Some(order), Some(dimensions)] = found else {
        return wrong("", "the keys descr, fortran_order and shape".into(), whole);
    };
    if !["'|b1'", "'?'", "'|u1'"].contains(&descr) {
        return wrong(
            ", descr",
            "'|b1' or '|u1' (a mask is bool or uint8: numpy.save(file, mask.astype(bool)))".into(),
            descr,
        );
    }
    if order != "False" {
        let expected = "False (numpy.ascontiguousarray makes an array of C order)";
        return wrong(", fortran_order", expected.into(), order);
    }
    let [layers, neurons] = shape;
    let numbers = dimensions.trim_start_matches('(').trim_end_matches(')').trim_end_matches(',').split(',');
    let numbers: Option<Vec<usize>> = numbers.map(|number| number.trim().parse().ok()).collect();
    if numbers.as_deref() != Some(&shape[..]) {
        return wrong(
            ", shape",
            format!("({layers}, {neurons}), the model's layers and neurons"),
            dimensions,
        );
    }
    Ok(())
}
