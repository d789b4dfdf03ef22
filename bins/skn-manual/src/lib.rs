//! What is made of the programs' flags, from the same types that parse them: completions for shells, man pages, and the
//! reference `docs/reference/programs.md`.
//!
//! ```sh
//! cargo run --bin skn-manual -- target/manual
//! ```

mod man;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use skn::Stage;
use skn::stage::{
    binarize, evaluate, experiment, mask, merge, predict, pretrain, probe, prune, report, run, select, tasks,
    train, verify,
};

pub use crate::man::man_page;
pub use crate::reference::reference;

/// Shells that have completions.
pub const SHELLS: [Shell; 4] = [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell];

/// All programs by name, with their flags, as a user meets them: the whole chain first, then its stages in order.
pub fn programs() -> Vec<Command> {
    fn of<S: Stage>() -> Command {
        S::command().name(S::PROGRAM).bin_name(S::PROGRAM)
    }
    vec![
        of::<run::Run>(),
        of::<train::Train>(),
        of::<probe::Probe>(),
        of::<select::Select>(),
        of::<mask::Mask>(),
        of::<prune::Prune>(),
        of::<predict::Predict>(),
        of::<evaluate::Evaluate>(),
        of::<report::Report>(),
        of::<experiment::Experiment>(),
        of::<merge::Merge>(),
        of::<binarize::Binarize>(),
        of::<tasks::Tasks>(),
        of::<verify::Verify>(),
        of::<pretrain::Pretrain>(),
        skn_fetch::Fetch::command().bin_name("skn-fetch"),
    ]
}

/// Writes `completions/` (a file for each program and shell, named as that shell looks for it) and `man/` into a folder, and
/// gives the files' paths.
///
/// # Errors
/// If a file can't be written.
pub fn write_manual(folder: &Path) -> Result<Vec<PathBuf>> {
    let [completions, man] = ["completions", "man"].map(|name| folder.join(name));
    for made in [&completions, &man] {
        fs::create_dir_all(made).with_context(|| format!("{}: can't make the folder", made.display()))?;
    }
    let mut written = Vec::new();
    for mut program in programs() {
        let name = program.get_name().to_owned();
        for shell in SHELLS {
            let path = clap_complete::generate_to(shell, &mut program, &name, &completions);
            written.push(path.with_context(|| format!("{}: can't write", completions.display()))?);
        }
        let path = man.join(format!("{name}.1"));
        fs::write(&path, man_page(&program)?).with_context(|| format!("{}: can't write", path.display()))?;
        written.push(path);
    }
    Ok(written)
}
