//! What every program does around its stage.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde::Serialize;
use skn_program::{conclude, parse, refuse_or_tell, report, typed_again};
use skn_session::options::{self, Compute};
use skn_session::{
    DryRun as Found, Isa, Session, TellingAllocator, fence, keep_candle_on_calling_thread, keep_freed_memory,
    tell_of_memory,
};

use crate::cli::{Common, Dry, rewrite_short_pairs};
use crate::console::Console;
use crate::dry_run::DryRun;
use crate::wording::{code, in_flags};

/// Nothing is done with it but to say what could not be had: a setting of the process, so it is the programs'.
#[global_allocator]
static ALLOCATOR: TellingAllocator = TellingAllocator;

/// What takes less memory, for who has not enough.
const MEMORY: &str = "--batch and --threads, where the program has them, take less with less";

/// A stage of the chain: its flags, and the call that they ask for.
pub trait Stage: Parser {
    /// The program's name.
    const PROGRAM: &'static str;

    /// What it found, as a person or (`--json`) a program reads it.
    type Output: Display + Serialize;

    /// The flags that every program has.
    fn common(&self) -> &Common;

    /// What it would do, where that is asked rather than that it does it (`--dry-run`).
    ///
    /// # Errors
    /// As [`Self::run`].
    fn dry_run(&self, _: &Call) -> anyhow::Result<Option<Found>> {
        Ok(None)
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    fn run(&self, call: &Call) -> anyhow::Result<Self::Output>;
}

/// A stage's surroundings.
pub struct Call {
    /// Where it says how far it is.
    pub console: Arc<Console>,
    /// The program as it was called: by its name, or by its path.
    pub name: String,
    /// Its arguments as they were typed, for the record.
    pub arguments: Vec<String>,
}

impl Call {
    /// A session for the one stage of a program.
    ///
    /// # Errors
    /// If the device or the threads can't be had.
    pub fn session(&self, compute: Compute) -> anyhow::Result<Session> {
        let typed = self.arguments.clone();
        let session = Session::new(compute)?.with_description(move |_| typed.clone());
        Ok(session.with_progress(self.console.clone()).for_one_stage())
    }

    /// What a stage would do, if that is asked.
    ///
    /// # Errors
    /// As `stage`, or as what is rehearsed.
    pub(crate) fn dry_run(
        &self,
        dry: Dry,
        compute: Compute,
        stage: impl FnOnce() -> anyhow::Result<options::Stage>,
    ) -> anyhow::Result<Option<Found>> {
        dry.of(|| Ok(self.session(compute)?.dry_run(&stage()?)?))
    }

    /// The command line that goes on with this one, where it was stopped.
    pub fn resumed(&self) -> String {
        let kept = self.arguments.iter().filter(|word| !["--force", "--resume"].contains(&word.as_str()));
        let words = kept.map(String::as_str).chain(["--resume"]);
        typed_again(std::iter::once(self.name.as_str()).chain(words))
    }

    /// The same, of a program that computes with no model.
    ///
    /// # Errors
    /// If threads can't be had.
    pub fn session_without_model(&self) -> anyhow::Result<Session> {
        self.session(without_model())
    }
}

/// How a program computes that computes with no model.
pub(crate) fn without_model() -> Compute {
    let mut compute = Compute::default();
    compute.threads = Some(std::num::NonZeroUsize::MIN);
    compute.device = skn_session::options::DeviceChoice::Cpu;
    compute
}

/// Parses the command line, runs the stage, prints what it found, and says how it ended.
pub fn program<S: Stage>() -> ExitCode {
    program_of::<S>(std::env::args_os())
}

/// The same, of another command line than the program's own, its first word included.
pub fn program_of<S: Stage>(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Some(code) = fence::enter() {
        return code;
    }
    tell_of_memory(S::PROGRAM, MEMORY);
    keep_candle_on_calling_thread();
    keep_freed_memory();
    let line = rewrite_short_pairs(line);
    let stage: S = match parse(&line) {
        Ok(stage) => stage,
        Err(error) => return refuse_or_tell(S::PROGRAM, &error, &line, &computes()),
    };
    let run = || {
        let console = Arc::new(Console::new(stage.common())?);
        let name = line.first().map_or(S::PROGRAM.into(), |name| name.to_string_lossy().into_owned());
        let call = Call { console: console.clone(), name, arguments: typed(&line) };
        if let Some(told) = stage.dry_run(&call).transpose() {
            let told = told.map(DryRun).map_err(|error| in_flags(error, || call.resumed()));
            return conclude(&console, stage.common(), told);
        }
        let result = stage.run(&call);
        conclude(&console, stage.common(), result.map_err(|error| in_flags(error, || call.resumed())))
    };
    report(S::PROGRAM, code, run())
}

/// What products are made with, of the version that `-v` is asked of too.
fn computes() -> [(&'static str, String); 2] {
    let isa = Isa::best();
    let products = if isa.multiplies_bf16() { "" } else { ", bf16 by products of f32" };
    let devices = if cfg!(feature = "cuda") { "cpu, cuda" } else { "cpu" };
    [("kernels", format!("{}{products}", isa.name())), ("devices", devices.to_owned())]
}

fn typed(line: &[OsString]) -> Vec<String> {
    line.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}
