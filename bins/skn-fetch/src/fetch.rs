//! The program: its flags, and what it does in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use skn_artifact::ArtifactError;
use skn_hub::{self as hub, Cache, HubError, Kind, Repository};
use skn_program::{Common, Console, Failure, conclude, exit_code, parse, report};

use crate::choice::{INDEX, choose};
use crate::content::{Expected, Hash};
use crate::remote::{Listed, Remote, Trouble, wrong_length};
use crate::settings::{self, Token};
use crate::store::{Partial, Store};

const PROGRAM: &str = "skn-fetch";

/// Tries that bring no byte, at most; one that brings some begins the count anew.
const FRUITLESS: u32 = 3;

/// Fetch a model or a data set from the Hugging Face Hub into its cache, where all programs find it by name: --model
/// owner/name, --data owner/name. What is there already is checked and kept; the same command goes on after a kill.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-fetch", version)]
pub struct Fetch {
    /// The repository: owner/name[@revision]
    #[arg(value_name = "OWNER/NAME")]
    name: String,

    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,

    /// What the repository holds
    #[arg(long, value_name = "TYPE", default_value = "model")]
    repo_type: RepoType,

    /// The same as --repo-type dataset
    #[arg(long, conflicts_with = "repo_type")]
    dataset: bool,

    /// Only files like this, such as 'sst2/*' (repeat for more) [default: what the programs read]
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,

    /// Address of the Hub [default: HF_ENDPOINT, else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// Cache to fetch into [default: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else
    /// ~/.cache/huggingface/hub]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// File with an access token [default: HF_TOKEN itself, else the file HF_TOKEN_PATH, else HF_HOME/token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Open no connection: check that all is here (HF_HUB_OFFLINE=1 or TRANSFORMERS_OFFLINE=1 does the same, for data sets
    /// HF_DATASETS_OFFLINE=1 too)
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    common: Common,
}

/// What a repository holds, by the Hub's word.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum RepoType {
    /// A model
    Model,
    /// A data set
    Dataset,
}

/// What is in the cache now.
#[derive(Clone, Debug, Serialize)]
pub struct Fetched {
    /// `owner/name`.
    pub repository: String,
    /// `model` or `data set`.
    pub kind: &'static str,
    /// The revision that was asked for.
    pub revision: String,
    /// Its commit.
    pub commit: String,
    /// The folder with the files.
    pub folder: PathBuf,
    /// The files.
    pub files: Vec<FetchedFile>,
}

/// One file of it.
#[derive(Clone, Debug, Serialize)]
pub struct FetchedFile {
    /// Its name in the repository.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its hash: SHA-256 or, of small files, git's SHA-1. Nothing of a file that is no link into the cache.
    pub hash: Option<String>,
    /// Whether it came now; else it was here.
    pub fetched: bool,
}

impl fmt::Display for Fetched {
    /// The folder alone, so that a shell can use it: `--resume_from "$(skn-fetch owner/name)"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folder.display())
    }
}

/// Parses the command line, fetches, prints the folder, and says how it ended.
pub fn program() -> ExitCode {
    let fetch: Fetch = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let run = || {
        let console = Console::new(&fetch.common)?;
        // The HTTP crates log what goes over the wire, the token's header too.
        log::set_max_level(log::LevelFilter::Off);
        conclude(&console, &fetch.common, fetch.run(&console))
    };
    report(PROGRAM, code, run())
}

fn code(error: &anyhow::Error) -> u8 {
    let known = |cause: &(dyn std::error::Error + 'static)| {
        let failure = cause.downcast_ref::<Failure>().map(Failure::exit_code);
        let kind = || {
            cause.downcast_ref().map(ArtifactError::kind).or_else(|| cause.downcast_ref().map(HubError::kind))
        };
        failure.or_else(|| kind().map(exit_code))
    };
    error.chain().filter_map(known).last().unwrap_or(1)
}

impl Fetch {
    /// Fetches what the flags say.
    ///
    /// # Errors
    /// If something is not on the Hub or can't be had, or is not what the Hub says that it is.
    pub fn run(&self, console: &Console) -> Result<Fetched> {
        let repository = self.repository()?;
        let cache = settings::cache(self.cache.clone())?;
        let offline = self.offline.then_some("--offline").or_else(|| hub::offline_by(repository.kind));
        if let Some(said_by) = offline {
            let patterns = &self.include;
            return Here { repository: &repository, cache: &cache, patterns, said_by }.check();
        }
        let endpoint = settings::endpoint(self.endpoint.as_deref())?;
        let token = Token::find(self.token_file.as_deref())?;
        if token.is_some() && endpoint.starts_with("http:") {
            tracing::warn!("{endpoint}: the token goes there unencrypted");
        }
        let remote = Remote::new(&repository, &endpoint, token, &cache)?;
        let listing = remote.list()?;
        let listed: BTreeMap<String, Listed> =
            listing.files.into_iter().map(|file| (file.name.clone(), file)).collect();
        let store = Store::new(&cache, &repository);
        let mut work = Work { console, remote, store: &store, commit: &listing.commit, done: 0 };
        let names = choose(&repository, listed.keys().map(String::as_str), &self.include)?;
        let mut chosen = work.described(names.into_iter().map(|name| listed[name].clone()))?;
        console.begin_bytes(&repository.name, total(&chosen));
        let mut kept = Vec::new();
        if let Some(index) = chosen.iter().position(|(name, _)| name == INDEX) {
            let (name, expected) = chosen.remove(index);
            kept.push(work.obtain(&name, &expected)?);
            let shards = shards(&store.blob(&expected.hash), &listed)?;
            let missing =
                shards.into_iter().filter(|shard| chosen.iter().all(|(name, _)| *name != shard.name));
            chosen.extend(work.described(missing)?);
            console.begin_bytes(&repository.name, expected.size.saturating_add(total(&chosen)));
        }
        for (name, expected) in &chosen {
            kept.push(work.obtain(name, expected)?);
        }
        self.publish(&repository, &store, &listing.commit, kept)
    }

    fn repository(&self) -> Result<Repository> {
        let kind = match (self.dataset, self.repo_type) {
            (true, _) | (_, RepoType::Dataset) => Kind::Dataset,
            _ => Kind::Model,
        };
        let text = match &self.revision {
            Some(revision) if !self.name.contains('@') => format!("{}@{revision}", self.name),
            Some(revision) => {
                let name = &self.name;
                return Err(Failure::usage(format!(
                    "{name} and --revision {revision}: expected one revision"
                )));
            }
            None => self.name.clone(),
        };
        Repository::parse(kind, &text).ok_or_else(|| {
            Failure::usage(format!("{text}: expected owner/name or owner/name@revision on the Hub"))
        })
    }

    /// Gives the contents their names, which makes them visible: all are here by now. The configuration comes last,
    /// since by it a model is found; the revision after it.
    fn publish(
        &self,
        repository: &Repository,
        store: &Store,
        commit: &str,
        mut kept: Vec<(FetchedFile, Hash)>,
    ) -> Result<Fetched> {
        kept.sort_by_key(|(file, _)| (file.name == "config.json", file.name.clone()));
        for (file, hash) in &kept {
            store.link(commit, &file.name, hash)?;
        }
        store.refer(&repository.revision, commit)?;
        let new: Vec<&FetchedFile> = kept.iter().map(|(file, _)| file).filter(|file| file.fetched).collect();
        let bytes = new.iter().map(|file| file.size).sum::<u64>();
        tracing::info!(
            "{}: {} files, {} of them ({bytes} bytes) fetched now, all checked",
            repository.name,
            kept.len(),
            new.len()
        );
        let files = kept.into_iter().map(|(file, _)| file).collect();
        Ok(fetched(repository, commit, store.snapshot(commit), files))
    }
}

fn fetched(repository: &Repository, commit: &str, folder: PathBuf, mut files: Vec<FetchedFile>) -> Fetched {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let Repository { kind, name, revision } = repository.clone();
    Fetched { repository: name, kind: kind.noun(), revision, commit: commit.into(), folder, files }
}

fn total(files: &[(String, Expected)]) -> u64 {
    // A hostile list may say anything.
    files.iter().fold(0, |sum, (_, expected)| sum.saturating_add(expected.size))
}

/// The files that an index of shards names.
fn shards(index: &Path, listed: &BTreeMap<String, Listed>) -> Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = skn_artifact::read_json(index)?;
    let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    let of = |name: String| {
        listed.get(&name).cloned().ok_or_else(|| {
            Failure::input(format!("{INDEX}: weight_map: expected a file of the repository, found {name:?}"))
        })
    };
    names.into_iter().map(of).collect()
}

/// A fetch in progress.
struct Work<'a> {
    console: &'a Console,
    remote: Remote<'a>,
    store: &'a Store,
    commit: &'a str,
    /// Bytes of the files that are finished.
    done: u64,
}

impl Work<'_> {
    /// Files with what they must be; where the Hub's list does not say it (a mirror's may not), the file's own headers
    /// do.
    fn described(&self, files: impl Iterator<Item = Listed>) -> Result<Vec<(String, Expected)>> {
        let describe = |Listed { name, expected }| {
            let expected = match expected {
                Some(expected) => expected,
                None => self.remote.open(self.commit, &name, 0)?.expected.ok_or_else(|| {
                    Failure::offline(format!("{name}: the Hub says neither hash nor length to check it by"))
                })?,
            };
            Ok((name, expected))
        };
        files.map(describe).collect()
    }

    /// Sees to it that a content is here, whole and right.
    fn obtain(&mut self, name: &str, expected: &Expected) -> Result<(FetchedFile, Hash)> {
        let here = self.store.has(expected)?;
        if !here {
            self.fetch(name, expected)?;
            tracing::info!("{name}: {} bytes fetched and checked", expected.size);
        }
        self.done += expected.size;
        self.console.reach(self.done);
        let hash = expected.hash.clone();
        let digits = Some(hash.digits().into());
        Ok((FetchedFile { name: name.into(), size: expected.size, hash: digits, fetched: !here }, hash))
    }

    fn fetch(&self, name: &str, expected: &Expected) -> Result<()> {
        let mut partial = self.store.partial(&expected.hash)?;
        // Whoever held the lock may have finished meanwhile.
        if self.store.has(expected)? {
            partial.discard();
            return Ok(());
        }
        let mut continued = partial.length > 0;
        if continued {
            tracing::info!("{name}: goes on behind the {} bytes that are here", partial.length);
        }
        loop {
            if partial.length > expected.size {
                partial.restart()?;
            }
            if let Err(error) = self.fill(&mut partial, name, expected) {
                if partial.length == 0 || partial.length > expected.size {
                    partial.discard();
                }
                return Err(error);
            }
            let Some(wrong) = self.store.complete(&partial, expected)? else { return Ok(()) };
            if !continued {
                partial.discard();
                return Err(Failure::offline(format!(
                    "{name}: {wrong}: not what the Hub lists; nothing is kept"
                )));
            }
            // What an earlier run left was not the beginning of this.
            tracing::warn!("{name}: {wrong}; it is fetched anew");
            continued = false;
            partial.restart()?;
        }
    }

    /// Adds what is missing, over as many connections as it takes.
    fn fill(&self, partial: &mut Partial, name: &str, expected: &Expected) -> Result<()> {
        let mut fruitless = 0;
        while partial.length < expected.size {
            let before = partial.length;
            let Err(trouble) = self.add(partial, name, expected) else { continue };
            let error = match trouble {
                Trouble::Passing(error) => error,
                Trouble::NoSuchRange(error) => {
                    partial.restart()?;
                    error
                }
                Trouble::Lasting(error) => return Err(error),
            };
            fruitless = if partial.length > before { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS {
                let (here, all) = (partial.length, expected.size);
                let hint = "the same command goes on from there";
                return Err(error.context(format!("{name}: {here} of {all} bytes are here; {hint}")));
            }
            tracing::debug!("{error}; another try");
            std::thread::sleep(Duration::from_millis(250) * fruitless);
            self.check_signal(name)?;
        }
        Ok(())
    }

    /// Adds what one connection brings.
    fn add(&self, partial: &mut Partial, name: &str, expected: &Expected) -> Result<(), Trouble> {
        let asked = partial.length;
        let arriving = self.remote.open(self.commit, name, asked)?;
        if let Some(found) = arriving.expected.filter(|found| found != expected) {
            return Err(match found.size == expected.size {
                true => Failure::offline(format!("{name}: expected {}, found {}", expected.hash, found.hash)),
                false => wrong_length(name, expected.size, found.size),
            }
            .into());
        }
        if arriving.from < asked {
            partial.restart()?;
        }
        let each = |length| {
            self.console.reach(self.done + length);
            self.check_signal(name)
        };
        // One more than should come, to see whether it does.
        let at_most = (expected.size - partial.length).saturating_add(1);
        match partial.append(&arriving.pieces, at_most, &each)? {
            Err(error) => {
                Err(Trouble::Passing(Failure::offline(format!("{name}: the connection broke: {error}"))))
            }
            Ok(()) if partial.length > expected.size => Err(wrong_length(name, expected.size, "more").into()),
            Ok(()) if partial.length < expected.size => {
                Err(Trouble::Passing(wrong_length(name, expected.size, partial.length)))
            }
            Ok(()) => Ok(()),
        }
    }

    fn check_signal(&self, name: &str) -> Result<()> {
        match self.console.signal() {
            Some(_) => Err(anyhow::anyhow!(
                "{name}: what is here of it is kept; the same command goes on from there"
            )),
            None => Ok(()),
        }
    }
}

/// A repository as it is in the cache, for those who may not ask the Hub.
struct Here<'a> {
    repository: &'a Repository,
    cache: &'a Cache,
    patterns: &'a [String],
    /// The flag or the variable that forbids connections.
    said_by: &'static str,
}

impl Here<'_> {
    /// Checks that what would be fetched is there, and that what is there is right.
    fn check(&self) -> Result<Fetched> {
        let Self { repository, cache, patterns, said_by } = self;
        let absent = |what: String| {
            let command = repository.fetch_command();
            Failure::offline(format!(
                "{what}; offline ({said_by}) nothing is fetched: run `{command}` with a connection"
            ))
        };
        let Some(folder) = cache.snapshot(repository)? else {
            let Repository { name, revision, .. } = repository;
            let remains = cache.remains(repository).map_or(String::new(), |remains| format!(" ({remains})"));
            let cache = cache.folder().display();
            return Err(absent(format!("{name}, revision {revision}: not in the cache {cache}{remains}")));
        };
        let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut listed = BTreeMap::new();
        list_folder(&folder, "", &mut listed)?;
        let names = choose(repository, listed.keys().map(String::as_str), patterns)
            .map_err(|error| absent(error.to_string()))?;
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.iter().any(|name| name == INDEX) {
            let shards = shards(&folder.join(INDEX), &listed).map_err(|error| absent(error.to_string()))?;
            names.extend(shards.into_iter().map(|shard| shard.name));
        }
        let file = |name: String| {
            let wrong = |what: String| absent(format!("{}: {what}", folder.join(&name).display()));
            let path = folder.join(&name);
            match hub::follow(&folder, &path) {
                Ok(Some(real)) => {
                    check_here(&real, &name).map_err(|error| wrong(error.to_string()))?.map_err(wrong)
                }
                Ok(None) => Err(wrong("is not there".into())),
                // That a content was taken away says itself what to do.
                Err(error @ HubError::Broken { .. }) => Err(Failure::offline(error.to_string())),
                Err(error) => Err(error.into()),
            }
        };
        let files = names.into_iter().map(file).collect::<Result<_>>()?;
        Ok(fetched(repository, &commit, folder.clone(), files))
    }
}

/// A file of a snapshot, by the path of its content: checked by the hash that this is named by. The inner error is what is
/// wrong.
fn check_here(real: &Path, name: &str) -> Result<Result<FetchedFile, String>> {
    let size = std::fs::metadata(real)?.len();
    let hash = real.file_name().and_then(|name| name.to_str()).and_then(Hash::parse);
    if let Some(hash) = &hash
        && let Some(wrong) = (Expected { size, hash: hash.clone() }).wrong_of(real)?
    {
        return Ok(Err(wrong));
    }
    let hash = hash.map(|hash| hash.digits().into());
    Ok(Ok(FetchedFile { name: name.into(), size, hash, fetched: false }))
}

/// The files below a folder, by their names with slashes.
fn list_folder(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Listed>) -> Result<()> {
    let wrong = |error| Failure::input(format!("{}: can't be read: {error}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(wrong)?.is_dir() {
            list_folder(&entry.path(), &format!("{name}/"), found)?;
        } else if !entry.path().is_dir() {
            // Links to nothing too: what they led to was here.
            found.insert(name.clone(), Listed { name, expected: None });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skn_hub::MAIN;

    fn repository(line: &[&str]) -> Result<Repository> {
        Fetch::try_parse_from([&["skn-fetch"], line].concat())?.repository()
    }

    #[test]
    fn a_repository_is_named_in_one_way_or_the_other() {
        let named = repository(&["owner/name@v1"]).unwrap();
        assert_eq!(named, repository(&["owner/name", "--revision", "v1"]).unwrap());
        assert_eq!(repository(&["owner/name"]).unwrap().revision, MAIN);
        let data = repository(&["owner/name", "--dataset"]).unwrap();
        assert_eq!(data, repository(&["owner/name", "--repo-type", "dataset"]).unwrap());
        for wrong in [&["owner/name@v1", "--revision", "v2"][..], &["a/b/c"], &["../x"]] {
            assert_eq!(code(&repository(wrong).unwrap_err()), 2);
        }
        assert!(repository(&["owner/name", "--dataset", "--repo-type", "model"]).is_err());
    }
}
