//! PyTorch, in a process that stays.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Result;
use crate::timings::Task;

/// What `peers/gpu.py` calls a contestant, and the table.
pub(crate) const CONTESTANTS: [(&str, &str); 4] = [
    ("reference", "the original's way in PyTorch, f32, head everywhere"),
    ("frozen", "PyTorch f32, frozen, head at the answer"),
    ("bf16", "PyTorch bf16, likewise"),
    ("compiled", "PyTorch bf16, likewise, torch.compile"),
];

/// The process, which ends when this is dropped.
pub(crate) struct Peers {
    child: Child,
    said: BufReader<ChildStdout>,
    name: String,
    out: PathBuf,
}

impl Peers {
    /// Starts a command, with the folders of the model and of the prompt behind it.
    pub(crate) fn start(command: &[String], folder: &Path) -> Result<Self> {
        let (program, arguments) = command.split_first().ok_or("no command for PyTorch")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args([folder.join("model"), folder.join("prompt")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let said = BufReader::new(child.stdout.take().ok_or("no output of PyTorch")?);
        let mut peers = Self { child, said, name: String::new(), out: folder.join("out.f32") };
        let ready = peers.line()?;
        peers.name = ready.strip_prefix("ready ").ok_or_else(|| ready.clone())?.to_owned();
        Ok(peers)
    }

    /// Versions, and the card.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Seconds of the work with the texts of a file.
    pub(crate) fn run(&mut self, task: Task, contestant: &str, texts: &Path) -> Result<f64> {
        self.ask(task.name(), contestant, texts)
    }

    /// What comes out.
    pub(crate) fn answer(&mut self, what: &str, contestant: &str, texts: &Path) -> Result<Vec<f32>> {
        self.ask(what, contestant, texts)?;
        let bytes = std::fs::read(&self.out)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
    }

    fn ask(&mut self, what: &str, contestant: &str, texts: &Path) -> Result<f64> {
        let input = self.child.stdin.as_mut().ok_or("PyTorch listens no more")?;
        writeln!(input, "{what}\t{contestant}\t{}\t{}", texts.display(), self.out.display())?;
        input.flush()?;
        let line = self.line()?;
        line.parse().map_err(|_| line.into())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.said.read_line(&mut line)? {
            0 => Err("PyTorch ended".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // At the end of its input it ends by itself.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
