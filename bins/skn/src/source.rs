//! Where a model comes from: a folder, the local Hugging Face cache, or the program itself.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use skn_model::{Config, ModelFolder, Weights};
use skn_program::hub::{Cache, Kind, Repository};

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

/// Refuses a model that memory can't hold, before any tensor of it is made: its weights are there once, and as much again is
/// left for what is computed with them.
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
    let Some(repository) = Repository::parse(Kind::Model, name) else {
        return Err(Failure::input(format!("{name}: no such folder")));
    };
    match cached(&repository)? {
        Some(snapshot) => Ok(ModelFolder::open(snapshot)?.with_id(repository.name)),
        None => Err(Failure::offline(format!(
            "{}, give a folder with --model DIR, or use the embedded model with --model demo",
            not_here(name, &repository)
        ))),
    }
}

/// Finds the data that a user names: an existing path, or `owner/name[@revision][:folder]` in the local Hugging Face
/// cache. An existing path wins over the cache.
///
/// # Errors
/// If the cache should have them and does not; the message says how to get them.
pub(crate) fn find_data(path: &Path) -> Result<Cow<'_, Path>> {
    let text = path.to_str().unwrap_or_default();
    let (name, folder) = text.split_once(':').unwrap_or((text, ""));
    let is_path = path.exists() || name.split_once('/').is_some_and(|(owner, _)| Path::new(owner).is_dir());
    let repository = Repository::parse(Kind::Dataset, name).filter(|_| !is_path);
    let Some(repository) = repository else { return Ok(Cow::Borrowed(path)) };
    let within = |snapshot: PathBuf| match Path::new(folder).components().all(is_below) {
        true => Ok(Cow::Owned(snapshot.join(folder))),
        false => Err(Failure::input(format!("{text}: {folder:?} is no folder of the data set"))),
    };
    match cache().map(|cache| cache.snapshot(&repository)).transpose()?.flatten() {
        Some(snapshot) => within(snapshot),
        // A lone word is rather a path that was mistyped.
        None if !name.contains('/') => Ok(Cow::Borrowed(path)),
        None => Err(Failure::offline(format!("{}, or give a path with --data", not_here(name, &repository)))),
    }
}

fn is_below(part: Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// The model that lies in the program.
pub(crate) fn demo() -> ModelFolder {
    ModelFolder::embedded(DEMO, skn_demo::model_files())
}

/// What a name that is nowhere lacks, and the command line that fetches it.
fn not_here(name: &str, repository: &Repository) -> String {
    let cache =
        cache().map_or("(none: HOME is not set)".into(), |cache| cache.folder().display().to_string());
    let noun = repository.kind.noun();
    let place = if repository.kind == Kind::Model { "folder" } else { "file or folder" };
    let command = repository.fetch_command();
    format!(
        "{name}: no such {place}, and no such {noun} in the Hugging Face cache {cache}; fetch it with `{command}`"
    )
}

/// The snapshot of a model in the cache, with the old name of one that has moved tried too.
fn cached(repository: &Repository) -> Result<Option<PathBuf>> {
    let Some(cache) = cache() else { return Ok(None) };
    let moved = (repository.name == DEFAULT_MODEL)
        .then(|| Repository { name: "FacebookAI/roberta-base".into(), ..repository.clone() });
    for repository in std::iter::once(repository.clone()).chain(moved) {
        let snapshot = cache.snapshot(&repository)?;
        if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.join("config.json").is_file()) {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

fn cache() -> Option<Cache> {
    Cache::of_environment()
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
