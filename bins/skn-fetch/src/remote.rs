//! The Hub as it is reached: what a repository has, and the content of its files.

use std::sync::Arc;

use anyhow::Result;
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use skn_hub::{self as hub, Kind, Repository};
use skn_program::Failure;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::answer::{Pieces, Trouble, in_thread};
use crate::content::{Expected, Hash};
use crate::http::{content_range, header, origin, percent_encoded, place_of, redirected};
use crate::listing::{Info, Listing, Sibling};
use crate::patience::{Limits, Patience, Waited, Watch};
use crate::settings::Token;

/// A list of files above this size is not of this world.
const MAX_LISTING: usize = 64 << 20;

/// From one address to the next, at most so often.
const MAX_REDIRECTS: usize = 10;

const USER_AGENT: &str = concat!("skn-fetch/", env!("CARGO_PKG_VERSION"));

/// A repository on the Hub. A request runs in a thread; one that nobody waits for any more ends with its next byte, or
/// by itself.
pub(crate) struct Remote {
    repository: Repository,
    endpoint: String,
    token: Option<Token>,
    api: Api,
    agent: Agent,
    limits: Limits,
}

/// A content that begins to arrive.
pub(crate) struct Arriving {
    /// The byte that it begins with: the one asked for, or 0 where the server knows no ranges.
    pub(crate) from: u64,
    /// Length and hash of the whole, as the headers say.
    pub(crate) expected: Option<Expected>,
    /// The bytes.
    pub(crate) pieces: Pieces,
}

/// The beginning of an answer.
struct Begun {
    from: u64,
    expected: Option<Expected>,
    body: Body,
}

impl Remote {
    /// A repository at an endpoint. Nothing is sent yet.
    ///
    /// # Errors
    /// If the client can't be made.
    pub(crate) fn new(
        repository: &Repository,
        endpoint: String,
        token: Option<Token>,
        cache: &hub::Cache,
        limits: Limits,
    ) -> Result<Arc<Self>> {
        let secret = token.as_ref().map(|token| token.reveal().to_string());
        // hf-hub looks for a token beside the cache by itself, and is given ours instead.
        let api = ApiBuilder::from_cache(Cache::new(cache.folder().into()))
            .with_endpoint(endpoint.clone())
            .with_token(secret)
            .with_progress(false)
            .with_user_agent("skn-fetch", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| Failure::offline(format!("{endpoint}: no client can be made: {error}")))?;
        // Whoever waits gives up before, and says why; this is for the thread that is left then.
        let [answer, silence] = [limits.answer, limits.silence].map(|it| Some(it.saturating_mul(2)));
        // Redirects are followed here, one by one: the Hub's own headers come with the first answer, and the token
        // goes to nobody else.
        let agent = Agent::config_builder()
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(answer)
            .timeout_send_request(answer)
            .timeout_recv_response(answer)
            .timeout_per_read(silence)
            .build()
            .new_agent();
        Ok(Arc::new(Self { repository: repository.clone(), endpoint, token, api, agent, limits }))
    }

    /// The commit and the files of the repository's revision.
    ///
    /// # Errors
    /// If the Hub can't be reached, has no such repository or revision, or does not give it to this token; if a signal
    /// came or the time is over.
    pub(crate) fn list(self: &Arc<Self>, watch: &Watch<'_>) -> Result<Listing> {
        let Self { repository, endpoint, .. } = &**self;
        let body = self.listing(watch)?;
        let wrong = |found: String| {
            let name = &repository.name;
            Failure::offline(format!("{name}: {endpoint}: expected the Hub's list of files, found {found}"))
        };
        let info: Info = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
        if !hub::is_commit(&info.sha) {
            return Err(wrong(format!("commit {:?}", info.sha)));
        }
        let files = info.siblings.into_iter().map(Sibling::listed);
        let files = files.collect::<Result<_, _>>().map_err(|name| wrong(format!("file name {name:?}")))?;
        Ok(Listing { commit: info.sha, files })
    }

    fn listing(self: &Arc<Self>, watch: &Watch<'_>) -> Result<Vec<u8>> {
        let Self { repository, endpoint, limits, .. } = &**self;
        let remote = Arc::clone(self);
        let begun = in_thread(move || {
            let response = remote.ask_for_list()?;
            Ok((response.into_body(), ()))
        })?;
        let mut patience = Patience::new(limits.answer, limits.least_rate);
        let ((), pieces) = begun.come(&repository.name, endpoint, watch, &mut [&mut patience])?;
        let mut body = Vec::new();
        loop {
            let length = |piece: &std::io::Result<Vec<u8>>| piece.as_ref().map_or(0, Vec::len);
            let broke =
                |why: String| Failure::offline(format!("{endpoint}: the list of files broke off: {why}"));
            match watch.wait(&repository.name, &pieces, &mut [&mut patience], length)? {
                Waited::Came(Ok(piece)) if piece.is_empty() => return Ok(body),
                Waited::Came(Ok(piece)) => body.extend(piece),
                Waited::Came(Err(error)) => return Err(broke(error.to_string())),
                Waited::Gone => return Err(broke("no more comes".into())),
                Waited::Slow(slow) => return Err(broke(slow.to_string())),
            }
            if body.len() > MAX_LISTING {
                return Err(broke(format!("it is longer than {MAX_LISTING} bytes")));
            }
        }
    }

    fn ask_for_list(&self) -> Result<Response<Body>, Trouble> {
        let Self { repository, endpoint, limits, .. } = self;
        let [answer, silence] = [limits.answer, limits.silence].map(|it| Some(it.saturating_mul(2)));
        let request = self.api.repo(repo(repository, &repository.revision)).info_request();
        let request = request.query("blobs", "true").config().http_status_as_error(false);
        let request = request.timeout_connect(answer).timeout_send_request(answer);
        let request = request.timeout_recv_response(answer);
        let request = request.timeout_per_read(silence).build();
        let response = request.call().map_err(|error| Trouble::Passing(unreachable(endpoint, &error)))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(self.refused(&response, None)),
        }
    }

    /// Asks for a file from byte `from` on, and waits for the answer's headers.
    ///
    /// # Errors
    /// If the Hub does not give it; if a signal came or the time is over.
    pub(crate) fn open(
        self: &Arc<Self>,
        watch: &Watch<'_>,
        patience: &mut Patience,
        (commit, name): (&str, &str),
        from: u64,
    ) -> Result<Arriving, Trouble> {
        let remote = Arc::clone(self);
        let (of_commit, of_name) = (commit.to_string(), name.to_string());
        let begun = in_thread(move || {
            let Begun { from, expected, body } = remote.ask_for(&of_commit, &of_name, from)?;
            Ok((body, (from, expected)))
        })?;
        let mut answer = Patience::new(self.limits.answer, 0);
        let ((from, expected), pieces) =
            begun.come(name, &self.endpoint, watch, &mut [&mut answer, patience])?;
        Ok(Arriving { from, expected, pieces })
    }

    fn ask_for(&self, commit: &str, name: &str, from: u64) -> Result<Begun, Trouble> {
        let at_hub = self.api.repo(repo(&self.repository, commit)).url(&percent_encoded(name));
        let mut url = at_hub.clone();
        let mut said = Said::default();
        for _ in 0..MAX_REDIRECTS {
            let response = self.get(&url, from)?;
            if origin(&url) == origin(&at_hub) {
                said.hear(&response, commit, name)?;
            }
            let status = response.status();
            if !status.is_redirection() {
                return self.begun(response, said, name, from);
            }
            let to = header(&response, "location").and_then(|to| redirected(&url, to));
            url = to.ok_or_else(|| {
                Failure::offline(format!("{name}: {status}: expected a redirect to http or https"))
            })?;
        }
        Err(Failure::offline(format!("{name}: redirected more than {MAX_REDIRECTS} times")).into())
    }

    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Trouble> {
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let (Some(token), true) = (&self.token, origin(url) == origin(&self.endpoint)) {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        request.call().map_err(|error| Trouble::Passing(unreachable(&place_of(url), &error)))
    }

    fn begun(&self, response: Response<Body>, said: Said, name: &str, from: u64) -> Result<Begun, Trouble> {
        let length = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
        let (start, total) = match response.status() {
            StatusCode::OK => (0, length),
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&response, "content-range").unwrap_or_default();
                let (start, total) =
                    content_range(range).filter(|(start, _)| *start == from).ok_or_else(|| {
                        Failure::offline(format!("{name}: expected bytes from {from} on, found {range:?}"))
                    })?;
                (start, total)
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
                let error = Failure::offline(format!("{name}: the server has no bytes from {from} on"));
                return Err(Trouble::NoSuchRange(error));
            }
            _ => return Err(self.refused(&response, Some(name))),
        };
        let expected = said.size.or(total).zip(said.hash).map(|(size, hash)| Expected { size, hash });
        if let (Some(Expected { size, .. }), Some(total)) = (&expected, total)
            && *size != total
        {
            return Err(wrong_length(name, *size, total).into());
        }
        Ok(Begun { from: start, expected, body: response.into_body() })
    }

    /// Why the Hub does not give a file, or the whole repository.
    fn refused(&self, response: &Response<Body>, file: Option<&str>) -> Trouble {
        let Repository { kind, name, revision } = &self.repository;
        let (noun, endpoint, status) = (kind.noun(), &self.endpoint, response.status());
        let what = file.map_or_else(|| name.clone(), |file| format!("{name}: {file}"));
        let token = "a token with read access (HF_TOKEN or --token-file FILE)";
        let code = header(response, "x-error-code").unwrap_or_default();
        let reason = match (status.as_u16(), code) {
            (_, "GatedRepo") => {
                format!("access must be asked for on its page, and needs {token}")
            }
            (_, "RevisionNotFound") => format!("the {noun} has no revision {revision}"),
            (_, "EntryNotFound") => "the file is not there".into(),
            (401, _) if self.token.is_none() => {
                format!("there is no such {noun}, or it is private and needs {token}")
            }
            (401, _) => "the token is not valid".into(),
            (403, _) if self.token.is_none() => format!("access needs {token}"),
            (403, _) => "the token gives no access to it".into(),
            (404, _) => {
                format!("there is no such {noun}, no revision {revision} of it, or the token does not see it")
            }
            (429, _) => "too many requests; wait, or log in with a token".into(),
            _ => "the server failed".into(),
        };
        let error = Failure::offline(format!("{what}: {endpoint} answers {status}: {reason}"));
        match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => Trouble::Passing(error),
            false => Trouble::Lasting(error),
        }
    }
}

/// A content is of another length than the Hub lists.
pub(crate) fn wrong_length(name: &str, expected: u64, found: impl std::fmt::Display) -> anyhow::Error {
    Failure::offline(format!("{name}: expected {expected} bytes, found {found}"))
}

fn repo(repository: &Repository, revision: &str) -> Repo {
    let kind = match repository.kind {
        Kind::Model => RepoType::Model,
        Kind::Dataset => RepoType::Dataset,
    };
    Repo::with_revision(repository.name.clone(), kind, revision.into())
}

/// What the Hub's own answers say of a content, before others send it.
#[derive(Default)]
struct Said {
    size: Option<u64>,
    hash: Option<Hash>,
}

impl Said {
    fn hear(&mut self, response: &Response<Body>, commit: &str, name: &str) -> Result<()> {
        if let Some(found) = header(response, "x-repo-commit")
            && found != commit
        {
            return Err(Failure::offline(format!("{name}: expected commit {commit}, found {found}")));
        }
        let linked = header(response, "x-linked-etag");
        let etag = linked.or_else(|| header(response, "etag").filter(|_| response.status().is_success()));
        self.hash = etag.and_then(Hash::parse_etag).or(self.hash.take());
        let size = header(response, "x-linked-size").and_then(|text| text.parse().ok());
        self.size = size.or(self.size);
        Ok(())
    }
}

fn unreachable(place: &str, error: &ureq::Error) -> anyhow::Error {
    let hint = "is the network there? without it, what is in the cache is found with --offline";
    Failure::offline(format!("{place}: can't be reached: {error}; {hint}"))
}
