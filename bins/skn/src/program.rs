//! What every program does around its stage.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde::Serialize;
use skn_program::{
    Failure, ProgressKind, conclude, conclude_silently, parse, refuse_or_tell, report, typed_again,
};
use skn_session::options::{self, Compute};
use skn_session::{
    DryRun as Found, Group, Isa, Session, TellingAllocator, fence, keep_candle_on_calling_thread,
    keep_freed_memory, tell_of_memory,
};

use crate::cli::{Common, Dry, rewrite_short_pairs};
use crate::console::Console;
use crate::dry_run::DryRun;
use crate::ranks::{Ranks, says_first};
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

    /// Whether several processes that MPI has started do it together.
    const IN_GROUP: bool = false;

    /// Whether it leaves something to go on from when it is told to stop, however long that takes.
    const SAVES_WHEN_STOPPED: bool = false;

    /// What it found, as a person or (`--json`) a program reads it.
    type Output: Display + Serialize;

    /// Whether it does a part of the work by itself, of which other processes do the rest.
    fn is_a_part(&self) -> bool {
        false
    }

    /// The flags that every program has.
    fn common(&self) -> &Common;

    /// What it would do, where that is asked rather than that it does it (`--dry-run`).
    ///
    /// # Errors
    /// As [`Self::run`].
    fn dry_run(&self, _: &Call) -> anyhow::Result<Option<Found>> {
        Ok(None)
    }

    /// The command line that usually follows, in words: it is told where this one is done. None where nothing does.
    fn next(&self, _found: &Self::Output) -> Option<Vec<String>> {
        None
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
    /// The processes that do it together.
    pub group: Arc<dyn Group>,
}

impl Call {
    /// A session for the one stage of a program.
    ///
    /// # Errors
    /// If the device or the threads can't be had.
    pub fn session(&self, compute: Compute) -> anyhow::Result<Session> {
        let typed = self.arguments.clone();
        let session =
            Session::in_group(compute, Arc::clone(&self.group))?.with_description(move |_| typed.clone());
        if self.group.size() > 1 {
            let (size, threads) = (self.group.size(), session.workers().threads());
            let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
            tracing::info!("{size} processes; {threads} each, as this one has");
        }
        Ok(session.with_progress(self.console.clone()).for_one_stage())
    }

    /// The command line of another program, which is called as this one was: by its name, or by its path beside this one.
    fn beside(&self, words: &[String]) -> String {
        let (program, arguments) = words.split_first().map_or(("", words), |(first, rest)| (first, rest));
        let program = Path::new(&self.name).with_file_name(program).display().to_string();
        typed_again(std::iter::once(program.as_str()).chain(arguments.iter().map(String::as_str)))
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
        Err(error) if !error.use_stderr() && !says_first() => return ExitCode::SUCCESS,
        Err(error) => {
            let tell = || refuse_or_tell(S::PROGRAM, &error, &line, &computes());
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            return match error.use_stderr() {
                false => tell(),
                true => Ranks::meet().map_or_else(|_| tell(), |ranks| ranks.refuse(code, tell)),
            };
        }
    };
    let ranks = match Ranks::meet() {
        Ok(ranks) => ranks,
        Err(error) => return report(S::PROGRAM, code, Err(error)),
    };
    let result = run(&stage, &line, &ranks);
    ranks.end(S::PROGRAM, code, result)
}

/// Does the stage, and prints what it found.
fn run<S: Stage>(stage: &S, line: &[OsString], ranks: &Ranks) -> anyhow::Result<()> {
    let mut common = stage.common().clone();
    if !ranks.is_first() {
        (common.quiet, common.verbose, common.progress) = (true, 0, ProgressKind::None);
    }
    let console = Arc::new(Console::new(&common)?);
    if !S::SAVES_WHEN_STOPPED {
        ranks.watch(S::PROGRAM, &console)?;
    }
    if S::IN_GROUP && !stage.is_a_part() {
        ranks.refuse_strangers()?;
    }
    if ranks.are_several() && !S::IN_GROUP {
        let why = format!("{} is done by one process; start it without mpirun", S::PROGRAM);
        return Err(Failure::usage(why));
    }
    let name = line.first().map_or(S::PROGRAM.into(), |name| name.to_string_lossy().into_owned());
    let call = Call { console: console.clone(), name, arguments: typed(line), group: ranks.group() };
    if let Some(told) = stage.dry_run(&call).transpose() {
        let told = told.map(DryRun).map_err(|error| in_flags(error, || call.resumed()));
        return conclude(&console, stage.common(), told);
    }
    let result = stage.run(&call);
    ranks.note_signal(&console);
    let next = result.as_ref().ok().and_then(|found| stage.next(found));
    let result = result.map_err(|error| in_flags(error, || call.resumed()));
    if !ranks.is_first() {
        return conclude_silently(&console, result);
    }
    conclude(&console, stage.common(), result)?;
    // A program that reads the result knows what it wants.
    if let Some(words) = next.filter(|_| !stage.common().json) {
        tracing::info!("next: {}", call.beside(&words));
    }
    Ok(())
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
