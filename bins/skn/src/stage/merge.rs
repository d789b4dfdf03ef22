//! `skn-merge`: put the shards of a probe together.

use std::fmt;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_session::options;
use skn_session::{DryRun, Merged as Found};

use crate::cli::{Common, Destination, Dry};
use crate::next;
use crate::program::{Call, Stage, without_model};

/// Put the shards of a probe (`skn-probe --shard I/N`) together.
///
/// Every file that all N shards in RUN/shards have becomes one file of the run, the same bytes as from one probe without
/// shards.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-merge", version)]
#[command(mut_arg("dry_run", |flag| flag.help(Dry::WITHOUT_TEXTS)))]
pub struct Merge {
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

impl Merge {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> options::Merge {
        let mut merge = options::Merge::new(&self.destination.out);
        merge.overwrite = self.destination.force;
        merge
    }
}

/// What was merged.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Merged(Found);

impl From<Found> for Merged {
    fn from(found: Found) -> Self {
        Self(found)
    }
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { run, shards, files, .. } = &self.0;
        match files.as_slice() {
            [] => write!(f, "{}: all that its {shards} shards have is merged already", run.display()),
            files => write!(f, "merged {shards} shards into {}: {}", run.display(), files.join(", ")),
        }
    }
}

impl Stage for Merge {
    const PROGRAM: &'static str = "skn-merge";
    type Output = Merged;

    fn common(&self) -> &Common {
        &self.common
    }

    fn next(&self, found: &Merged) -> Option<Vec<String>> {
        next::after_counts(&found.0.run, &found.0.files)
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, without_model(), || Ok(self.options().into()))
    }

    fn run(&self, call: &Call) -> Result<Merged> {
        Ok(Merged(call.session_without_model()?.merge(&self.options())?))
    }
}
