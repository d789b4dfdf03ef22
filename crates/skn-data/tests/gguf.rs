//! Tokenizers in GGUF files give the ids of the models' own: `gguf/make.py` wrote the files, and asked those.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use skn_artifact::GgufFile;
use skn_data::{Example, Join, TextEncoder, TokenizerFiles};

#[derive(Deserialize)]
struct Cases {
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    size: usize,
    ids: Vec<Vec<u32>>,
}

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf").join(name)
}

fn encoder(file: &GgufFile) -> Result<TextEncoder, String> {
    let mut files = TokenizerFiles::new("F");
    files.insert("config.json", &br#"{"model_type": "llama"}"#[..]);
    files.insert_gguf(file).map_err(|error| error.to_string())?;
    TextEncoder::from_files(&files).map_err(|error| error.to_string())
}

#[test]
fn ids_are_those_of_the_models_own_tokenizers() {
    let all: Cases = serde_json::from_slice(&std::fs::read(at("cases.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &all.cases {
        let file = GgufFile::open(&at(&format!("{}.gguf", case.name))).unwrap();
        let encoder = encoder(&file).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(encoder.vocabulary_size(), case.size, "{}", case.name);
        assert_eq!(encoder.beyond_vocabulary(), None);
        encoder.try_out().unwrap();
        assert_eq!(case.ids.len(), all.texts.len());
        for (text, ids) in all.texts.iter().zip(&case.ids) {
            let example = Example { text: text.as_str().into(), pair: None, more: Box::default(), label: 0 };
            let (found, _) = encoder.encode(&example, 999, Join::Separated).unwrap();
            if found != *ids {
                wrong.push(format!("{}: {text:?}: expected {ids:?}, found {found:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(all.cases.len(), 8);
}

#[test]
fn begin_and_end_tokens_stand_where_the_file_says() {
    let llama = encoder(&GgufFile::open(&at("llama-bpe.gguf")).unwrap()).unwrap();
    assert_eq!((llama.tokens_around(), llama.start_id()), (1, llama.id_of("<|begin|>")));
    let pair = Example { text: "the".into(), pair: Some("play".into()), more: Box::default(), label: 0 };
    let (ids, second) = llama.encode(&pair, 99, Join::Separated).unwrap();
    let begin = llama.id_of("<|begin|>").unwrap();
    assert_eq!((ids[0], ids[second - 1]), (begin, begin), "{ids:?} {second}");
    // Told otherwise.
    let told = changed("llama-bpe.gguf", b"add_bos_token", 7, &[0]);
    assert_eq!(encoder(&told).unwrap().tokens_around(), 0);
    let told = changed("gpt-2.gguf", b"add_eos_token", 7, &[1]);
    let gpt2 = encoder(&told).unwrap();
    assert_eq!((gpt2.tokens_around(), gpt2.end_id()), (1, gpt2.id_of("<|end|>")));
}

/// A file with one key more, behind `tokenizer.ggml.`, of a kind.
fn changed(name: &str, key: &[u8], kind: u32, value: &[u8]) -> GgufFile {
    let mut bytes = std::fs::read(at(name)).unwrap();
    let key = [b"tokenizer.ggml.", key].concat();
    let keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    bytes.splice(16..24, (keys + 1).to_le_bytes());
    let more = [&(key.len() as u64).to_le_bytes()[..], &key, &kind.to_le_bytes(), value].concat();
    bytes.splice(24..24, more);
    GgufFile::from_bytes(Path::new("m.gguf"), bytes).unwrap()
}

/// A file in which bytes are replaced by as many others.
fn replaced(name: &str, from: &[u8], to: &[u8]) -> GgufFile {
    let mut bytes = std::fs::read(at(name)).unwrap();
    assert_eq!(from.len(), to.len());
    let place = bytes.windows(from.len()).position(|part| part == from).unwrap();
    bytes.splice(place..place + from.len(), to.iter().copied());
    GgufFile::from_bytes(Path::new("m.gguf"), bytes).unwrap()
}

#[test]
fn what_cannot_be_made_is_named() {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let value = |text: &str| [&8u32.to_le_bytes()[..], &string(text)].concat();
    for (file, parts) in [
        (
            replaced("smollm.gguf", &value("smollm"), &value("tekken")),
            &["ggml.pre", "\"tekken\"", "tokenizer.json"][..],
        ),
        (replaced("smollm.gguf", b".pre", b".par"), &["ggml.pre", "found nothing"]),
        (
            replaced("smollm.gguf", &value("gpt2"), &value("bert")),
            &["ggml.model", "\"bert\"", "beside the file"],
        ),
        (replaced("smollm.gguf", b"ggml.merges", b"ggml.nerges"), &["ggml.merges", "found nothing"]),
        (replaced("smollm.gguf", b"ggml.tokens", b"ggml.takens"), &["ggml.tokens", "found nothing"]),
        (replaced("pieces.gguf", b"ggml.scores", b"ggml.stores"), &["ggml.scores", "found nothing"]),
        (
            replaced("pieces.gguf", &string("<0x7F>"), &string("<0x7f>")),
            &["a token for each byte", "none <0x7F>"],
        ),
        (replaced("pieces.gguf", &value("llama"), &value("lamma")), &["general.architecture", "\"lamma\""]),
        (changed("pieces.gguf", b"remove_extra_whitespaces", 7, &[1]), &["remove_extra_whitespaces"]),
        (replaced("gpt-2.gguf", &string("[PAD1]"), &string("[PAD0]")), &[]),
        (replaced("gpt-2.gguf", &string("<|end|>"), &string("<|beg|>")), &[]),
        (changed("gpt-2.gguf", b"add_sep_token", 7, &[1]), &["add_sep_token"]),
        (
            changed("gpt-2.gguf", b"unknown_token_id", 4, &u32::MAX.to_le_bytes()),
            &["unknown_token_id", "4294967295"],
        ),
        (changed("olmo.gguf", b"add_space_prefix", 7, &[1]), &["add_space_prefix"]),
    ] {
        match encoder(&file) {
            Ok(_) => assert!(parts.is_empty(), "{parts:?}"),
            Err(message) => {
                assert!(message.starts_with("m.gguf: key `"), "{message}");
                assert!(
                    !parts.is_empty() && parts.iter().all(|part| message.contains(part)),
                    "{parts:?}: {message}"
                );
            }
        }
    }
}

/// A real file: `SKN_GGUF_CASE` names a JSON file with its path, texts, and their ids as transformers has them.
#[test]
#[ignore = "needs a file that is not here"]
fn a_real_file_gives_the_ids_of_its_models_tokenizer() {
    #[derive(Deserialize)]
    struct Real {
        file: PathBuf,
        texts: Vec<String>,
        ids: Vec<Vec<u32>>,
    }
    let case = std::env::var("SKN_GGUF_CASE").unwrap();
    let case: Real = serde_json::from_slice(&std::fs::read(case).unwrap()).unwrap();
    let encoder = encoder(&GgufFile::open(&case.file).unwrap()).unwrap();
    for (text, ids) in case.texts.iter().zip(&case.ids) {
        let example = Example { text: text.as_str().into(), pair: None, more: Box::default(), label: 0 };
        assert_eq!(encoder.encode(&example, 99_999, Join::Separated).unwrap().0, *ids, "{text:?}");
    }
    assert_eq!(case.texts.len(), case.ids.len());
}
