//! A model as read, with its tokenizer.

use std::thread::Builder;

use candle_core::Device;
use skn_artifact::names::file;
use skn_artifact::{GgufFile, ModelIdentity};
use skn_data::{TextEncoder, TokenizerFiles};
use skn_model::{Backend, Config, ModelFolder, Weights};
use skn_probing::Progress;

use crate::error::{Result, SessionError};
use crate::fence::{self, address_space, no_thread, taken};

/// A model as read: what it is, and its weights.
pub(crate) struct LoadedModel {
    /// Where it came from.
    pub(crate) folder: ModelFolder,
    /// Its shape.
    pub(crate) config: Config,
    /// Its weights.
    pub(crate) weights: Weights,
}

impl LoadedModel {
    /// Reads a model's configuration and weights.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    fn read(folder: ModelFolder, device: &Device) -> Result<Self> {
        let config = folder.config()?;
        if Backend::of(device).computes_on_caller() {
            check_memory(&folder, config.weight_bytes(), available_memory())?;
        }
        let weights = Weights::read(&folder, &config, device)?;
        Ok(Self { folder, config, weights })
    }

    /// The files of its folder that stand beside configuration and weights, by name. Of a model in a GGUF file they are those of its
    /// tokenizer, made of that if they are not beside it.
    ///
    /// # Errors
    /// If one can't be read or made.
    pub(crate) fn other_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let others = || file::MODEL.iter().filter(|name| ![file::CONFIG, file::WEIGHTS].contains(name));
        let mut files = Vec::new();
        if self.folder.gguf().is_some() {
            let made = tokenizer_files(&self.folder)?;
            let made = made.parts().filter(|(name, _)| others().any(|other| other == name));
            files.extend(made.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
        } else {
            for name in others() {
                files.extend(self.folder.file(name)?.map(|bytes| ((*name).to_owned(), bytes.into_owned())));
            }
        }
        Ok(files)
    }

    /// Its identity in artifacts.
    pub(crate) fn identity(&self) -> ModelIdentity {
        ModelIdentity { id: self.folder.id().to_string(), sha256: self.weights.sha256().to_string() }
    }
}

/// Reads a model and its tokenizer, side by side: neither needs the other, and each takes its time.
///
/// # Errors
/// If a file is missing or damaged, or the two do not fit.
pub(crate) fn read_model(
    folder: ModelFolder,
    device: &Device,
    progress: &dyn Progress,
) -> Result<(LoadedModel, TextEncoder)> {
    let of_tokenizer = folder.clone();
    let (model, encoder) = std::thread::scope(|scope| {
        let beside = Builder::new().name("skn-tokenizer".into());
        let encoder = beside.spawn_scoped(scope, || read_tokenizer(&of_tokenizer, progress));
        let encoder = encoder.map_err(|error| no_thread("to read the tokenizer on", &error))?;
        let model = LoadedModel::read(folder, device);
        let encoder = encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, SessionError>((model?, encoder?))
    })?;
    let (rows, tokens) = (model.config.vocab_size, encoder.vocabulary_size());
    if tokens > rows {
        let place = model.folder.place().display();
        return Err(SessionError::input(format!(
            "{place}: the tokenizer has {tokens} tokens, but the model has embeddings for {rows} (vocab_size)"
        )));
    }
    if let Some((token, id)) = encoder.beyond_vocabulary().filter(|(_, id)| *id as usize >= rows) {
        let place = model.folder.place().display();
        return Err(SessionError::input(format!(
            "{place}: the tokenizer's token {token:?} has the id {id}, but the model has embeddings for {rows} (vocab_size)"
        )));
    }
    Ok((model, encoder))
}

/// Refuses a model that memory can't hold, before any tensor of it is made: its weights are there once, and as much again is
/// left for what is computed with them.
fn check_memory(folder: &ModelFolder, weights: u64, available: Option<u64>) -> Result<()> {
    let needed = weights.saturating_mul(2);
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    tracing::debug!("{}: about {:.2} GiB of memory for the weights", folder.place().display(), gib(needed));
    match available {
        Some(available) if needed > available => Err(SessionError::input(format!(
            "{}: the sizes in config.json need about {:.1} GiB of memory for the weights, but {:.1} GiB are available to this process",
            folder.place().display(),
            gib(needed),
            gib(available)
        ))),
        _ => Ok(()),
    }
}

/// What the system says is available, in bytes, and this process may still have; nothing where it does not say.
pub(crate) fn available_memory() -> Option<u64> {
    let allowed = || Some(address_space()?.saturating_sub(taken()?));
    [free_memory(), allowed()].into_iter().flatten().min()
}

fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files of a model's tokenizer. Of one in a GGUF file they are made, unless there is a `tokenizer.json` beside it.
fn tokenizer_files(folder: &ModelFolder) -> Result<TokenizerFiles<'static>> {
    let place = folder.place().display().to_string();
    let mut files = TokenizerFiles::gather(&place, |name| folder.file(name))?;
    if let Some(gguf) = folder.gguf()
        && files.lack_vocabulary()
    {
        files.insert_gguf(gguf)?;
    }
    Ok(files)
}

/// Checks that a tokenizer beside a GGUF file is the model's, where the file says which tokens that has.
fn check_tokens(gguf: &GgufFile, encoder: &TextEncoder) -> Result<()> {
    /// What the file calls a token that is nothing special.
    const NORMAL: i64 = 1;
    let Some(tokens) = gguf.texts("tokenizer.ggml.tokens")? else { return Ok(()) };
    let types = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
    let normal = (0u32..).zip(tokens).zip(types).filter(|(_, kind)| *kind == NORMAL).map(|(token, _)| token);
    for (id, token) in normal {
        let found = encoder.id_of(token);
        if found != Some(id) {
            let found = found.map_or_else(|| "none".to_owned(), |id| id.to_string());
            return Err(SessionError::input(format!(
                "{}: its token {token:?} has the id {id}, but {found} in the tokenizer.json beside it, which is of another model; take \
                 that away, or give the file a folder of its own",
                gguf.path().display()
            )));
        }
    }
    Ok(())
}

/// Reads a model's tokenizer.
///
/// # Errors
/// If there is none, or it is damaged.
fn read_tokenizer(folder: &ModelFolder, progress: &dyn Progress) -> Result<TextEncoder> {
    let files = tokenizer_files(folder)?;
    if files.lack_vocabulary() {
        return Err(folder
            .lacks(
                "tokenizer.json, nor vocab.json and merges.txt, nor vocab.txt beside it",
                "save it in Python: AutoTokenizer.from_pretrained(ID).save_pretrained(DIR)",
            )
            .into());
    }
    // What lies in the program is not other people's.
    if !folder.is_embedded() {
        fence::check_tokenizer(&files, progress)?;
    }
    let encoder = TextEncoder::from_files(&files)?;
    if let Some(gguf) = folder.gguf() {
        check_tokens(gguf, &encoder)?;
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::demo;

    #[test]
    fn a_model_that_memory_cannot_hold_is_refused() {
        assert!(check_memory(&demo(), 1 << 30, Some(3 << 30)).is_ok());
        assert!(check_memory(&demo(), 1 << 60, None).is_ok(), "nobody knows");
        let error = check_memory(&demo(), 2 << 30, Some(3 << 30)).unwrap_err().to_string();
        assert!(error.contains("4.0 GiB") && error.contains("3.0 GiB are available"), "{error}");
        assert!(check_memory(&demo(), u64::MAX, Some(3 << 30)).is_err());
    }
}
