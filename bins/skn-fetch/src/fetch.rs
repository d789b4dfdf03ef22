//! The program: its flags, and what it does in which order.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use skn_artifact::ArtifactError;
use skn_hub::{self as hub, HubError, Kind, Repository};
use skn_program::{Common, Console, Failure, conclude, exit_code, parse, refuse_or_tell, report};

use crate::choice::{INDEX, choose};
use crate::content::Hash;
use crate::fetched::{Fetched, FetchedFile, fetched};
use crate::here::Here;
use crate::listing::Listed;
use crate::names::{check_files, check_repository};
use crate::patience::Watch;
use crate::remote::Remote;
use crate::settings::{self, Token};
use crate::shards::shards;
use crate::store::Store;
use crate::work::{Work, total};

const PROGRAM: &str = "skn-fetch";

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

    /// Fewest bytes a second; slower for half a minute (HF_HUB_DOWNLOAD_TIMEOUT: seconds), it takes another connection,
    /// and slower for a minute, it gives up. With 0, only where none come
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    least_rate: u64,

    /// Give up after so many seconds in all; what is here by then is kept [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,

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

/// Parses the command line, fetches, prints the folder, and says how it ended.
pub fn program() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let fetch: Fetch = match parse(&line) {
        Ok(fetch) => fetch,
        Err(error) => return refuse_or_tell("skn-fetch", &error, &line, &[]),
    };
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
        check_repository(&cache.repository(&repository), &repository)?;
        let endpoint = settings::endpoint(self.endpoint.as_deref())?;
        let token = Token::find(self.token_file.as_deref())?;
        if token.is_some() && endpoint.starts_with("http:") {
            tracing::warn!("{endpoint}: the token goes there unencrypted");
        }
        let limits = settings::limits(self.least_rate, self.timeout)?;
        let watch = Watch::new(console, limits);
        let remote = Remote::new(&repository, endpoint, token, &cache, limits)?;
        let listing = remote.list(&watch)?;
        let listed: BTreeMap<String, Listed> =
            listing.files.into_iter().map(|file| (file.name.clone(), file)).collect();
        let store = Store::new(&cache, &repository);
        let mut work = Work { console, watch, remote, store: &store, commit: &listing.commit, done: 0 };
        let names = choose(&repository, listed.keys().map(String::as_str), &self.include)?;
        check_files(&store.aside(&listing.commit), names.iter().copied())?;
        let mut chosen = work.described(names.into_iter().map(|name| listed[name].clone()))?;
        console.begin_bytes(&repository.name, total(&chosen));
        let mut kept = Vec::new();
        // Who says which files gets those.
        let index = chosen.iter().position(|(name, _)| name == INDEX).filter(|_| self.include.is_empty());
        if let Some(index) = index {
            let (name, expected) = chosen.remove(index);
            kept.push(work.obtain(&name, &expected)?);
            let shards = shards(&store.blob(&expected.hash), &listed)?;
            let missing =
                shards.into_iter().filter(|shard| chosen.iter().all(|(name, _)| *name != shard.name));
            chosen.extend(work.described(missing)?);
            check_files(&store.aside(&listing.commit), chosen.iter().map(|(name, _)| name.as_str()))?;
            console.begin_bytes(&repository.name, expected.size.saturating_add(total(&chosen)));
        }
        for (name, expected) in &chosen {
            kept.push(work.obtain(name, expected)?);
        }
        publish(&repository, &work, &listing.commit, kept)
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
}

/// Gives the contents their names, which makes them visible: all are here by now.
fn publish(
    repository: &Repository,
    work: &Work<'_>,
    commit: &str,
    kept: Vec<(FetchedFile, Hash)>,
) -> Result<Fetched> {
    let names: Vec<(&str, &Hash)> = kept.iter().map(|(file, hash)| (file.name.as_str(), hash)).collect();
    work.store.publish(&work.watch, &repository.revision, commit, &names)?;
    let new: Vec<&FetchedFile> = kept.iter().map(|(file, _)| file).filter(|file| file.fetched).collect();
    let bytes = new.iter().map(|file| file.size).sum::<u64>();
    tracing::info!(
        "{}: {} files, {} of them ({bytes} bytes) fetched now, all checked",
        repository.name,
        kept.len(),
        new.len()
    );
    let files = kept.into_iter().map(|(file, _)| file).collect();
    Ok(fetched(repository, commit, work.store.snapshot(commit), files))
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
