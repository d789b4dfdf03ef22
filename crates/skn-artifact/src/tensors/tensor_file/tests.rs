use super::*;
use half::{bf16, f16};
use proptest::prelude::*;

use crate::{Array, TensorBundle, tensor_hash};

fn sample() -> TensorBundle {
    let mut bundle = TensorBundle::new();
    bundle.insert("b", Array::f32(vec![2, 2], vec![1.0, -2.5, f32::MAX, 0.0]).unwrap());
    bundle.insert("a", Array::i64(vec![1], vec![-7]).unwrap());
    bundle.insert("mask", Array::bool(vec![3], vec![true, false, true]).unwrap());
    bundle.insert("empty", Array::i32(vec![0, 4], vec![]).unwrap());
    bundle.describe("skn.kind", "sample");
    bundle
}

fn parse(bytes: Vec<u8>) -> Result<TensorFile> {
    TensorFile::from_bytes(Path::new("sample.safetensors"), bytes)
}

#[test]
fn what_is_written_is_read_back() {
    let file = parse(sample().to_bytes().unwrap()).unwrap();
    assert_eq!(file.f32("b", Some(&[2, 2])).unwrap().1, [1.0, -2.5, f32::MAX, 0.0]);
    assert_eq!(file.i64("a", None).unwrap(), (vec![1], vec![-7]));
    assert_eq!(file.bool("mask", None).unwrap().1, [true, false, true]);
    assert_eq!(file.i32("empty", None).unwrap(), (vec![0, 4], vec![]));
    assert_eq!(file.metadata()["skn.kind"], "sample");
    assert!(file.expect_kind("sample").is_ok() && file.expect_kind("other").is_err());
}

#[test]
fn a_newer_form_is_refused_by_its_number() {
    let of = |schema| parse(sample().in_schema(schema).to_bytes().unwrap());
    assert!((1..=5).all(|schema| of(schema).is_ok()));
    for schema in [0, 6] {
        let message = of(schema).unwrap_err().to_string();
        let found = format!("sample.safetensors: metadata skn.schema: expected 1 to 5, found \"{schema}\"");
        assert!(message.starts_with(&found) && message.contains("a newer version"), "{message}");
    }
    // What another program writes there is no number, or comes without a version.
    let data = [0; 4];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &data).unwrap();
    let metadata = [("skn.schema".to_owned(), "two".to_owned())].into();
    let message = parse(safetensors::serialize([("x", view)], Some(metadata)).unwrap()).unwrap_err();
    assert!(message.to_string().ends_with("expected 1 to 5, found \"two\""), "{message}");
}

#[test]
fn what_the_safetensors_crate_writes_is_read() {
    let data: Vec<u8> = [1.5f32, 2.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
    let bytes = safetensors::serialize([("x", view)], None).unwrap();
    assert_eq!(parse(bytes).unwrap().f32("x", Some(&[2])).unwrap().1, [1.5, 2.5]);
}

#[test]
fn errors_name_file_and_tensor() {
    let file = parse(sample().to_bytes().unwrap()).unwrap();
    for (error, part) in [
        (file.f32("c", None).unwrap_err(), "`c`"),
        (file.f32("b", Some(&[4])).unwrap_err(), "[2, 2]"),
        (file.i64("b", None).unwrap_err(), "F32"),
    ] {
        let message = error.to_string();
        assert!(message.contains("sample.safetensors") && message.contains(part), "{message}");
    }
}

#[test]
fn broken_headers_are_refused() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        parse(bytes).map(|_| ())
    };
    let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(file(one, 8).is_ok());
    assert!(file(one, 9).is_err(), "trailing bytes");
    assert!(file(one, 7).is_err(), "cut off");
    let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    assert!(file(twice, 1).unwrap_err().to_string().contains("twice"));
    let overlap = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert!(file(overlap, 2).is_err());
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    assert!(file(huge, 0).is_err(), "the product overflows");
}

#[test]
fn other_formats_are_recognised() {
    for (bytes, word) in [
        (&b"\x80\x02}q\x00X\x01\x00\x00"[..], "pickle"),
        (b"PK\x03\x04aaaaaaaa", "zip"),
        (b"GGUFaaaaaaaa", "GGUF"),
    ] {
        let message = parse(bytes.to_vec()).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn half_precision_is_converted() {
    let header = r#"{"h":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"k":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([1.5, 3.0].map(|number| f16::from_f32(number).to_le_bytes()).concat());
    bytes.extend([-2.0, 0.25].map(|number| bf16::from_f32(number).to_le_bytes()).concat());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    for file in [parse(bytes).unwrap(), TensorFile::open(&path).unwrap()] {
        for (name, expected) in [("h", [1.5, 3.0]), ("k", [-2.0, 0.25])] {
            assert_eq!(file.f32(name, None).unwrap(), (vec![2, 1], expected.to_vec()));
            let (mut seen, mut row) = (Vec::new(), Vec::new());
            file.scan_f32(name, None, |values| seen.extend_from_slice(values)).unwrap();
            file.append_f32_rows(name, [2, 1], 1..2, &mut row).unwrap();
            assert_eq!((seen, row), (expected.to_vec(), vec![expected[1]]));
        }
    }
}

/// What quantised models hold beside their floats. Made by hand as `safetensors.torch.save_file` writes them (types and sizes of
/// torch.uint16, uint64, float8_e4m3fn, complex64, and two 4-bit floats a byte).
#[test]
fn tensors_of_other_types_are_passed_over() {
    let of = |dtype: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[8,16]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([1.5f32, -2.0].map(f32::to_le_bytes).concat());
        bytes.extend([7; 8]);
        bytes
    };
    let mut hashes = Vec::new();
    for dtype in ["U16", "U64", "F8_E4M3", "F8_E5M2", "C64", "F4", "of-2031"] {
        let file = parse(of(dtype)).unwrap();
        assert_eq!(file.f32("b", Some(&[2])).unwrap().1, [1.5, -2.0], "{dtype}");
        let message = file.f32("a", None).unwrap_err().to_string();
        assert!(message.contains("`a`") && message.contains(dtype), "{message}");
        assert!(file.bool("a", None).is_err() && file.scan_f32("a", None, |_| {}).is_err());
        hashes.push(file_hash([&file]).unwrap());
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 7, "the type counts");
    // Every byte still belongs to one tensor.
    let mut longer = of("U64");
    longer.push(0);
    assert!(parse(longer).is_err());
    // The published form of the hash, whatever the type: computed with Python's hashlib.
    assert_eq!(hashes[1], "4460d5c595fad9cdf8b9af04099ed2ff7ccf46562cd71a4decfa62aab141aef0");
    assert!(parse(of("I64")).is_err(), "four of these are 32 bytes");
}

#[test]
fn a_file_is_the_same_read_as_a_whole_and_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.safetensors");
    let mut bundle = sample();
    // More than one piece of a hash.
    let many: Vec<f32> = (0..200_001).map(|n| n as f32).collect();
    bundle.insert("many", Array::f32(vec![200_001], many.clone()).unwrap());
    let bytes = bundle.to_bytes().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let (open, read) = (TensorFile::open(&path).unwrap(), TensorFile::read(&path).unwrap());
    assert_eq!(open.metadata(), read.metadata());
    for file in [&open, &read] {
        assert_eq!(file.f32("many", None).unwrap().1, many);
        assert_eq!(file.f32("b", Some(&[2, 2])).unwrap().1, [1.0, -2.5, f32::MAX, 0.0]);
        assert_eq!(file.i64("a", None).unwrap(), (vec![1], vec![-7]));
        assert_eq!(file.bool("mask", None).unwrap().1, [true, false, true]);
        assert_eq!(file.i32("empty", None).unwrap(), (vec![0, 4], vec![]));
    }
    let stored: Vec<(&String, Vec<u8>)> =
        bundle.tensors().iter().map(|(name, array)| (name, bytes_of(array))).collect();
    let expected = tensor_hash(stored.iter().map(|(name, bytes)| {
        let array = &bundle.tensors()[*name];
        (name.as_str(), array.dtype(), array.shape(), bytes.as_slice())
    }));
    assert_eq!([&open, &read].map(|file| file_hash([file]).unwrap()), [expected.clone(), expected]);
    // Who looks at the values on the way gets them all, and the same hash.
    for file in [&open, &read] {
        let mut seen = Vec::new();
        let digest = file.scan_f32("b", Some(&[2, 2]), |values| seen.extend_from_slice(values)).unwrap();
        assert_eq!((seen, digest), (file.f32("b", None).unwrap().1, file.digest("b").unwrap()));
        assert!(file.scan_f32("mask", None, |_| {}).is_err());
        let mut seen = Vec::new();
        file.scan_f32("many", None, |values| seen.extend_from_slice(values)).unwrap();
        assert!(seen == many, "several pieces");
        let mut rows = vec![9.0];
        file.append_f32_rows("b", [2, 2], 1..2, &mut rows).unwrap();
        file.append_f32_rows("b", [2, 2], 0..2, &mut rows).unwrap();
        assert_eq!(rows, [9.0, f32::MAX, 0.0, 1.0, -2.5, f32::MAX, 0.0]);
        let outside = file.append_f32_rows("b", [2, 2], 1..3, &mut rows).unwrap_err().to_string();
        assert!(outside.contains("rows below 2") && outside.contains("1..3"), "{outside}");
        assert!(file.append_f32_rows("b", [4, 1], 0..1, &mut rows).is_err());
    }
    // What has become shorter meanwhile is an error, and so is what is no such file.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(open.f32("mask", None).is_err() && open.bool("mask", None).is_err());
    assert!(TensorFile::open(&path).is_err());
    std::fs::write(&path, b"GGUF").unwrap();
    assert!(TensorFile::open(&path).unwrap_err().to_string().contains("GGUF"));
    let missing = TensorFile::open(&folder.path().join("none.safetensors")).unwrap_err();
    assert!(matches!(missing, ArtifactError::Missing { .. }), "{missing}");
}

#[test]
fn bytes_of_a_tensor_are_within_it() {
    let mut bundle = sample();
    bundle.insert("bytes", Array::u8(vec![2, 3], vec![1, 2, 3, 4, 5, 6]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.safetensors");
    std::fs::write(&path, bundle.to_bytes().unwrap()).unwrap();
    for file in [TensorFile::open(&path).unwrap(), TensorFile::read(&path).unwrap()] {
        let range = |range| file.u8_range("bytes", Some(&[2, 3]), range).map(Cow::into_owned);
        assert_eq!(
            [0..6, 2..5, 6..6].map(|of| range(of).unwrap()),
            [vec![1, 2, 3, 4, 5, 6], vec![3, 4, 5], vec![]]
        );
        for wrong in [Range { start: 3, end: 2 }, 0..7, 7..8] {
            let message = range(wrong).unwrap_err().to_string();
            assert!(message.contains("`bytes`: expected bytes below 6"), "{message}");
        }
        assert!(file.u8_range("bytes", Some(&[6]), 0..1).is_err() && file.u8_range("a", None, 0..1).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_files_never_panic(place in 0usize..600, value: u8, cut in 0usize..600) {
        let mut bytes = sample().to_bytes().unwrap();
        let place = place % bytes.len();
        bytes[place] = value;
        bytes.truncate(bytes.len() - cut % bytes.len());
        if let Ok(file) = parse(bytes) {
            prop_assert!(file_hash([&file]).is_ok());
        }
    }
}

fn bytes_of(array: &Array) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = array.write(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.unwrap();
    bytes
}
