use super::*;
use proptest::prelude::*;

/// A file that is made by hand, part by part.
#[derive(Clone)]
struct Made {
    version: u32,
    values: Vec<(&'static str, u32, Vec<u8>)>,
    tensors: Vec<(&'static str, Vec<u64>, u32, u64)>,
    data: Vec<u8>,
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

fn list(kind: u32, values: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat()
}

impl Made {
    fn sample() -> Self {
        let numbers = (0..64u8).flat_map(|number| f32::from(number).to_le_bytes());
        // Two blocks of Q8_0, of which each is the half-precision number 1 and 32 integers.
        let block = || [0x00, 0x3c].into_iter().chain(0..32u8);
        let mut data: Vec<u8> = numbers.collect();
        data.extend(block().chain(block()));
        Self {
            version: 3,
            values: vec![
                ("general.architecture", 8, string(b"llama")),
                ("llama.block_count", 4, 2u32.to_le_bytes().to_vec()),
                ("llama.epsilon", 6, 1e-5f32.to_le_bytes().to_vec()),
                ("negative", 5, (-1i32).to_le_bytes().to_vec()),
                ("flag", 7, vec![1]),
                ("tokens", 9, list(8, &[string(b"a"), string(b""), string("\u{e4}".as_bytes())])),
                ("types", 9, list(5, &[3i32.to_le_bytes().to_vec(), 1i32.to_le_bytes().to_vec()])),
                ("scores", 9, list(6, &[0.1f32.to_le_bytes().to_vec()])),
                ("flags", 9, list(7, &[vec![0], vec![1]])),
            ],
            tensors: vec![("b", vec![32, 2], 0, 0), ("a", vec![32, 2], 8, 256)],
            data,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.values {
            bytes.extend(string(key.as_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for (name, shape, kind, place) in &self.tensors {
            bytes.extend(string(name.as_bytes()));
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(place.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn read(&self) -> Result<GgufFile> {
        GgufFile::from_bytes(Path::new("m.gguf"), self.bytes())
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let message = self.read().unwrap_err().to_string();
        assert!(message.starts_with("m.gguf: "), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut made = self.clone();
        change(&mut made);
        made
    }
}

#[test]
fn what_a_file_says_is_read_by_its_kind() {
    let file = Made::sample().read().unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.integer("llama.block_count").unwrap(), Some(2));
    assert_eq!(file.number("llama.epsilon").unwrap(), Some(1e-5), "as it was written");
    assert_eq!(file.flag("flag").unwrap(), Some(true));
    assert_eq!(file.texts("tokens").unwrap().unwrap(), ["a", "", "\u{e4}"]);
    assert_eq!(file.integers("types").unwrap().unwrap(), [3, 1]);
    assert_eq!(file.numbers("scores").unwrap().unwrap(), [0.1]);
    assert_eq!(file.flags("flags").unwrap().unwrap(), [false, true]);
    assert_eq!(file.text("none").unwrap(), None);
    assert!(file.says("flag") && !file.says("none") && file.keys().count() == 9);
    for (message, part) in [
        (
            file.integer("negative").unwrap_err().to_string(),
            "key `negative`: expected an integer that is not negative, found -1",
        ),
        (file.text("flag").unwrap_err().to_string(), "key `flag`: expected a text, found true"),
        (file.integers("tokens").unwrap_err().to_string(), "found a list of 3"),
        (file.number("llama.block_count").unwrap_err().to_string(), "expected a finite number, found 2"),
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn blocks_are_given_by_rows_and_hashed() {
    let made = Made::sample();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, made.bytes()).unwrap();
    for file in [made.read().unwrap(), GgufFile::open(&path).unwrap()] {
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        let (shape, kind) = file.tensor("a").unwrap();
        assert_eq!((shape, kind.name()), (&[2, 32][..], "Q8_0"));
        let row = file.rows("a", 1..2, <[u8]>::to_vec).unwrap();
        assert_eq!(row, made.data[256 + 34..]);
        let numbers = file.rows("b", 0..2, |bytes| bytemuck::cast_slice::<u8, f32>(bytes).to_vec()).unwrap();
        assert_eq!((numbers.len(), numbers[33]), (64, 33.0));
        let mut seen = Vec::new();
        let digest = file.scan("a", |bytes| seen.extend_from_slice(bytes)).unwrap();
        assert_eq!(seen, made.data[256..]);
        assert_eq!(digest.sha256[..], Sha256::digest(&seen)[..]);
        assert_eq!((digest.dtype.name(), &digest.shape[..]), ("Q8_0", &[2, 32][..]));
        assert!(file.rows("a", 1..3, |_| ()).is_err() && file.rows("c", 0..1, |_| ()).is_err());
        assert_eq!([0, 2].map(|row| file.rows("a", row..row, <[u8]>::len).unwrap()), [0, 0], "none are some");
        let backwards = std::ops::Range { start: 2, end: 1 };
        assert!(file.rows("a", backwards, |_| ()).unwrap_err().to_string().contains("rows below 2"));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let made = Made::sample();
    made.with(|made| made.version = 1).refused(&["header, version", "2 or 3, found 1"]);
    made.with(|made| made.version = 3u32.swap_bytes()).refused(&["big-endian"]);
    made.with(|made| made.values.push(("flag", 7, vec![0]))).refused(&["key `flag`", "twice"]);
    made.with(|made| made.values.push(("other", 7, vec![2]))).refused(&["key `other`", "0 or 1"]);
    made.with(|made| made.values.push(("other", 13, vec![]))).refused(&[
        "key `other`",
        "kind of value",
        "13",
    ]);
    let nested = || list(9, &[list(7, &[vec![1]])]);
    made.with(|made| made.values.push(("other", 9, nested()))).refused(&["a list of lists"]);
    let endless = [&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    made.with(|made| made.values.push(("other", 9, endless)))
        .refused(&["key `other`", "for which the GGUF file has bytes"]);
    for wrong in [0u32, 48, 1 << 20] {
        made.with(|made| made.values.push(("general.alignment", 4, wrong.to_le_bytes().to_vec())))
            .refused(&["general.alignment", "power of two"]);
    }
    made.with(|made| made.tensors[1].0 = "b").refused(&["tensor `b`", "twice"]);
    made.with(|made| made.tensors[1].2 = 5).refused(&["tensor `a`", "type 5"]);
    made.with(|made| made.tensors[1].1 = vec![16, 4]).refused(&["tensor `a`", "whole blocks of 32"]);
    made.with(|made| made.tensors[1].1 = vec![]).refused(&["tensor `a`", "1 to 4 dimensions, found 0"]);
    made.with(|made| made.tensors[1].1 = vec![1; 5]).refused(&["tensor `a`", "found 5"]);
    made.with(|made| made.tensors[1].1 = vec![32, 0]).refused(&["tensor `a`", "sizes above 0"]);
    made.with(|made| made.tensors[1].1 = vec![1 << 40, 1 << 40]).refused(&["tensor `a`", "within the file"]);
    made.with(|made| made.tensors[1].3 = 224).refused(&["tensor `a`", "begins at 256", "224"]);
    made.with(|made| made.tensors[1].3 = 288).refused(&["tensor `a`", "begins at 256", "288"]);
    made.with(|made| made.tensors[1].1 = vec![32, 9]).refused(&["tensor `a`", "306 bytes from 256"]);
    made.with(|made| made.data.resize(400, 0)).refused(&["data: expected"]);
    let padded = made.with(|made| made.data.resize(320 + 32, 0));
    assert!(padded.read().is_ok(), "filled up to the alignment");
    let message = GgufFile::from_bytes(Path::new("m.gguf"), b"PK\x03\x04".to_vec()).unwrap_err().to_string();
    assert!(message.contains("expected a GGUF header, found a zip file"), "{message}");
    assert!(GgufFile::from_bytes(Path::new("m.gguf"), Vec::new()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_files_never_panic(place in 0usize..800, value: u8, cut in 0usize..800) {
        let mut bytes = Made::sample().bytes();
        let place = place % bytes.len();
        bytes[place] = value;
        if cut < bytes.len() {
            bytes.truncate(bytes.len() - cut);
        }
        if let Ok(file) = GgufFile::from_bytes(Path::new("m.gguf"), bytes) {
            let keys: Vec<&str> = file.keys().collect();
            for key in keys {
                let _ = (file.text(key), file.integer(key), file.number(key), file.flag(key), file.texts(key));
                let _ = (file.integers(key), file.numbers(key), file.flags(key));
            }
            for name in file.names() {
                file.scan(name, |_| {}).unwrap();
                let rows = file.tensor(name).unwrap().0[0];
                let _ = file.rows(name, 0..rows, |_| {});
            }
        }
    }
}
