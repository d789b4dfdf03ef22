//! Where a model comes from: a folder, the local Hugging Face cache, or the program itself.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use skn_model::{Config, ModelFolder, Weights};

use crate::cli::DeviceName;
use crate::exit::Failure;

/// The name of the embedded model.
pub(crate) const DEMO: &str = "demo";
/// The model of a command line that names none.
pub(crate) const DEFAULT_MODEL: &str = "roberta-base";

/// A model as read: what it is, and its weights.
pub(crate) struct Model {
    /// Where it came from.
    pub(crate) folder: ModelFolder,
    /// Its shape.
    pub(crate) config: Config,
    /// Its weights.
    pub(crate) weights: Weights,
}

impl Model {
    /// Reads a model's configuration and weights.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub(crate) fn read(folder: ModelFolder, device: &Device) -> Result<Self> {
        let config = folder.config()?;
        if device.is_cpu() {
            check_memory(&folder, config.weight_bytes(), available_memory())?;
        }
        let weights = Weights::read(&folder, &config, device)?;
        Ok(Self { folder, config, weights })
    }
}

/// Refuses a model that memory can't hold, before any tensor of it is made: its weights are there once as they were read
/// and once packed for the products.
fn check_memory(folder: &ModelFolder, weights: u64, available: Option<u64>) -> Result<()> {
    let needed = weights.saturating_mul(2);
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    tracing::debug!("{}: about {:.2} GiB of memory for the weights", folder.place().display(), gib(needed));
    match available {
        Some(available) if needed > available => Err(Failure::input(format!(
            "{}: the sizes in config.json need about {:.1} GiB of memory for the weights, but {:.1} GiB are available",
            folder.place().display(),
            gib(needed),
            gib(available)
        ))),
        _ => Ok(()),
    }
}

/// What the system says is available, in bytes; nothing where it does not say.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Finds the model that a user names: `demo`, an existing folder, or `owner/name[@revision]` in the local Hugging
/// Face cache. An existing folder wins over the cache.
///
/// # Errors
/// If it is nowhere; the message says how to get it.
pub(crate) fn find(name: &str) -> Result<ModelFolder> {
    if name == DEMO {
        return Ok(demo());
    }
    if Path::new(name).is_dir() {
        return Ok(ModelFolder::open(name)?);
    }
    let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
    let looks_like_a_name = !repository.is_empty()
        && repository.split('/').count() <= 2
        && repository.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && repository.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if !looks_like_a_name {
        return Err(Failure::input(format!("{name}: no such folder")));
    }
    match cached(repository, revision) {
        Some(snapshot) => Ok(ModelFolder::open(snapshot)?.with_id(repository)),
        None => Err(not_here(name)),
    }
}

/// The model that lies in the program.
pub(crate) fn demo() -> ModelFolder {
    ModelFolder::embedded(DEMO, skn_demo::model_files())
}

fn not_here(name: &str) -> anyhow::Error {
    let cache =
        cache_folder().map_or("(none: HOME is not set)".into(), |folder| folder.display().to_string());
    Failure::offline(format!(
        "{name}: no such folder, and no such model in the Hugging Face cache {cache}; \
         fetch it with `huggingface-cli download {name}`, give a folder with --model DIR, \
         or use the embedded model with --model demo"
    ))
}

/// The snapshot of a repository in the cache, with the old name of a model that has moved tried too.
fn cached(repository: &str, revision: &str) -> Option<PathBuf> {
    let cache = cache_folder()?;
    let moved = (repository == DEFAULT_MODEL).then_some("FacebookAI/roberta-base");
    std::iter::once(repository).chain(moved).find_map(|name| {
        let folder = cache.join(format!("models--{}", name.replace('/', "--")));
        let commit = std::fs::read_to_string(folder.join("refs").join(revision));
        let commit = commit.map_or_else(|_| revision.to_string(), |commit| commit.trim().to_string());
        let snapshot = folder.join("snapshots").join(commit);
        snapshot.join("config.json").is_file().then_some(snapshot)
    })
}

/// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("huggingface").join("hub")))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache").join("huggingface").join("hub")))
}

/// The device that a user names. `auto` is CUDA where this program was built with it and the machine has it.
///
/// # Errors
/// If CUDA is asked for and can't be had: never a silent run on the CPU.
pub(crate) fn device(name: DeviceName) -> Result<Device> {
    match name {
        DeviceName::Cpu => Ok(Device::Cpu),
        DeviceName::Auto if !candle_core::utils::cuda_is_available() => Ok(Device::Cpu),
        DeviceName::Auto => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        DeviceName::Cuda(number) if candle_core::utils::cuda_is_available() => Device::new_cuda(number)
            .map_err(|error| Failure::device(format!("cuda:{number}: the device can't be opened: {error}"))),
        DeviceName::Cuda(number) => Err(Failure::device(format!(
            "cuda:{number}: this program was built without CUDA; build it with \
             `cargo build --release --features cuda` (needs nvcc), or use --device cpu"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_memory_cannot_hold_is_refused() {
        assert!(check_memory(&demo(), 1 << 30, Some(3 << 30)).is_ok());
        assert!(check_memory(&demo(), 1 << 60, None).is_ok(), "nobody knows");
        let error = check_memory(&demo(), 2 << 30, Some(3 << 30)).unwrap_err().to_string();
        assert!(error.contains("4.0 GiB") && error.contains("3.0 GiB are available"), "{error}");
        assert!(check_memory(&demo(), u64::MAX, Some(3 << 30)).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_no_repositories() {
        for name in ["../x", "a/b/c", "", "a/..", "a b"] {
            let error = find(name).unwrap_err();
            assert_eq!(crate::exit::code(&error), 3, "{name}: {error}");
        }
    }
}
