//! Where models and data are: a folder, the local Hugging Face cache, or the program itself.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use skn_artifact::names::file;
use skn_artifact::{Foreign, Wanted, is_file, is_folder, is_link, real_path};
use skn_hub::{Cache, Kind, Repository, Snapshot};
use skn_model::ModelFolder;

use crate::error::{Result, SessionError};
use crate::options::Subject;
use crate::walk::walk;

/// Finds the model that a user names: `demo`, an existing folder or GGUF file, or `owner/name[@revision]` in the local Hugging
/// Face cache. An existing folder wins over the cache.
///
/// # Errors
/// If it is nowhere; the message says how to get it.
pub(crate) fn find_model(name: &str) -> Result<ModelFolder> {
    if name == Subject::DEMO {
        return Ok(demo());
    }
    let path = Path::new(name);
    let real = skn_hub::follow(path, path)?;
    if real.map_or(Ok(false), |real| is_folder(&real))? {
        tell_links(path);
        return ModelFolder::open(name).map_err(|error| match tuned_in(path) {
            // It lies beside a model, or in a run of one.
            Some(found) => SessionError::from(error).within(format!(
                "{name}: it has tuned parameters ({found}) and no model; option `resume_from` {name} takes both"
            )),
            None => error.into(),
        });
    }
    if is_file(path)? {
        return match Foreign::of_file(path) {
            Some(Foreign::Gguf) => {
                tell_links(path);
                Ok(ModelFolder::open_gguf(path)?)
            }
            found => Err(no_model(path, found)),
        };
    }
    let Some(repository) = Repository::parse(Kind::Model, name) else {
        return Err(SessionError::input(format!("{name}: no such folder")));
    };
    match cached(&repository)? {
        Some(snapshot) => Ok(ModelFolder::open(snapshot)?.with_id(repository.name)),
        None => Err(SessionError::NotHere(format!(
            "{}, give a folder with option `model` DIR, or use the embedded model with option `model` demo",
            not_here(name, &repository)?
        ))),
    }
}

/// A file of tuned parameters in a folder that is no model: for a message, which can do without.
fn tuned_in(folder: &Path) -> Option<&'static str> {
    let is_there = |name: &&str| is_file(&folder.join(name)).unwrap_or(false);
    file::TUNED.into_iter().find(is_there).filter(|_| !is_there(&file::CONFIG))
}

/// What is said of a file that is no model, by what else it is.
fn no_model(file: &Path, found: Option<Foreign>) -> SessionError {
    let found = match found {
        Some(Foreign::Safetensors) => "a file of tensors; give the folder that it lies in".into(),
        Some(found) => found.told(Wanted::Tensors),
        None => "a file".into(),
    };
    let expected = "a model's folder in Hugging Face form (config.json, model.safetensors, tokenizer.json), or a GGUF file";
    SessionError::input(format!("{}: expected {expected}, found {found}", file.display()))
}

/// Finds the data that a user names: an existing path, or `owner/name[@revision][:folder]` in the local Hugging Face
/// cache. An existing path wins over the cache.
///
/// # Errors
/// If the cache should have them and does not; the message says how to get them.
pub(crate) fn find_data(path: &Path) -> Result<Cow<'_, Path>> {
    if skn_hub::follow(path, path)?.is_some() {
        tell_links(path);
        return Ok(Cow::Borrowed(path));
    }
    let text = path.to_str().unwrap_or_default();
    let (name, folder) = text.split_once(':').unwrap_or((text, ""));
    let owner = name.split_once('/').map(|(owner, _)| Path::new(owner));
    let is_path = owner.map(is_folder).transpose()?.unwrap_or(false);
    let repository = Repository::parse(Kind::Dataset, name).filter(|_| !is_path);
    let Some(repository) = repository else { return Ok(Cow::Borrowed(path)) };
    let within = |snapshot: PathBuf| match Path::new(folder).components().all(is_below) {
        true => Ok(Cow::Owned(snapshot.join(folder))),
        false => Err(SessionError::input(format!("{text}: {folder:?} is no folder of the data set"))),
    };
    match Cache::of_environment()?.map(|cache| cache.snapshot(&repository)).transpose()?.flatten() {
        Some(snapshot) => within(snapshot),
        // A lone word is rather a path that was mistyped.
        None if !name.contains('/') => Ok(Cow::Borrowed(path)),
        None => Err(SessionError::NotHere(format!(
            "{}, or give a path with option `data`",
            not_here(name, &repository)?
        ))),
    }
}

fn is_below(part: Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// The model that lies in the program.
pub(crate) fn demo() -> ModelFolder {
    ModelFolder::embedded(Subject::DEMO, skn_demo::model_files())
}

/// What a name that is nowhere lacks, and the command line that fetches it.
fn not_here(name: &str, repository: &Repository) -> Result<String> {
    let cache = Cache::of_environment()?;
    let remains = cache.as_ref().and_then(|cache| cache.remains(repository));
    let remains = remains.or_else(|| elsewhere(repository));
    let remains = remains.map_or(String::new(), |remains| format!(" ({remains})"));
    let cache = cache.map_or("(none: HOME is not set)".into(), |cache| cache.folder().display().to_string());
    let noun = repository.kind.noun();
    let place = if repository.kind == Kind::Model { "folder" } else { "file or folder" };
    let command = repository.fetch_command();
    Ok(format!(
        "{name}: no such {place}, and no such {noun} in the Hugging Face cache {cache}{remains}; fetch it with \
         `{command}`"
    ))
}

/// Says that a repository is where transformers kept it until version 4, if it is. It is for a message, which can do without: a
/// folder that can't be looked at, such as another user's, is passed over.
fn elsewhere(repository: &Repository) -> Option<String> {
    const OLD: &str = "TRANSFORMERS_CACHE";
    let cache = Cache::at(skn_hub::expanded(OLD, skn_hub::variable(OLD)?).ok()?);
    let is_there = is_folder(&cache.repository(repository)).unwrap_or(false);
    is_there.then(|| {
        format!(
            "{OLD} has it, which is not read, as in transformers 5: HF_HUB_CACHE={}",
            cache.folder().display()
        )
    })
}

/// The snapshot of a model in the cache, with the old name of one that has moved tried too. One that has no
/// configuration is better than none: what it lacks can be said.
fn cached(repository: &Repository) -> Result<Option<PathBuf>> {
    let Some(cache) = Cache::of_environment()? else { return Ok(None) };
    let moved = (repository.name == Subject::MODEL)
        .then(|| Repository { name: "FacebookAI/roberta-base".into(), ..repository.clone() });
    let mut found = None;
    for repository in std::iter::once(repository.clone()).chain(moved) {
        let Some(snapshot) = cache.snapshot(&repository)? else { continue };
        if is_file(&snapshot.join(file::CONFIG))? {
            return Ok(Some(snapshot));
        }
        found = found.or(Some(snapshot));
    }
    Ok(found)
}

/// Tells which files of a place that the user named are links, and where they really are. In a snapshot of the Hugging Face
/// cache all are. What can't be looked at is told by who reads it.
fn tell_links(place: &Path) {
    let real = |place: &Path| real_path(place).ok().flatten();
    let of_cache = || real(place).is_some_and(|place| Snapshot::around(&place).is_some());
    if tracing::enabled!(tracing::Level::DEBUG) && !of_cache() {
        walk(place, &mut |path| {
            if is_link(path).unwrap_or(false)
                && let Some(real) = real(path)
            {
                tracing::debug!("{}: read as {}", path.display(), real.display());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skn_artifact::ErrorKind;

    #[test]
    fn a_file_is_no_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.bin");
        for (bytes, part) in [
            (&b"\x80\x02}q\0."[..], "safetensors.torch.save_file"),
            (b"@\0\0\0\0\0\0\0{\"a\":{}}", "give the folder that it lies in"),
            (b"anything", "found a file"),
        ] {
            skn_artifact::write_file(&path, skn_artifact::Overwrite::Replace, bytes).unwrap();
            let error = find_model(path.to_str().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input, "{error}");
            let error = error.to_string();
            assert!(
                error.contains("model.bin: expected a model's folder") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn a_gguf_file_is_one() {
        let files = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/gguf/");
        let folder = find_model(&format!("{files}qwen2.gguf")).unwrap();
        assert!(folder.gguf().is_some() && folder.id() == "qwen2");
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("m.gguf");
        skn_artifact::write_file(&path, skn_artifact::Overwrite::Refuse, b"GGUF\x03\0\0\0").unwrap();
        let error = find_model(path.to_str().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains("m.gguf: header, number of tensors: expected 8 bytes"), "{error}");
        // Its folder is none.
        let error = find_model(place.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("no config.json; there is m.gguf, which is a model by itself"), "{error}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_no_repositories() {
        for name in ["../x", "a/b/c", "", "a/..", "a b"] {
            let error = find_model(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input, "{name}: {error}");
        }
    }
}
